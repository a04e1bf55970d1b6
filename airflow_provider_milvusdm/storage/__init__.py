"""Files and object storage: bytes, whatever their format."""
