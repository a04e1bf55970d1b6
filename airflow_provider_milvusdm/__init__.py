"""Migrates Milvus 1.x data directories into Milvus 2.x, as Airflow DAGs or from the command line."""

__version__ = "0.1.0"
