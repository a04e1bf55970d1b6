"""What a Milvus 1.x server leaves on disk."""
