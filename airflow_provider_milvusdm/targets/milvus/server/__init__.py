"""Requests to a Milvus 2.x, and what it can do."""
