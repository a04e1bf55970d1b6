"""Targets: rows become a Milvus 2.x collection. Nothing here knows Airflow or where the rows came from."""
