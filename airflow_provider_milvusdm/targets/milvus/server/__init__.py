"""What is asked of a Milvus 2.x and sent to it."""
