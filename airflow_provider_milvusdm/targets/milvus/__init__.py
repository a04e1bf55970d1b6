"""Milvus 2.x as a target: a folder for each step of the chain."""
