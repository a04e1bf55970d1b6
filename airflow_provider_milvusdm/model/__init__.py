"""Collections, rows and load units as plain values, without I/O."""
