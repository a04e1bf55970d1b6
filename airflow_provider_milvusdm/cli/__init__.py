"""The command ``milvusdm``."""
