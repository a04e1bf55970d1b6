"""Sources: bytes of one format become segments. Nothing here knows Airflow or Milvus 2.x."""
