"""Sources: the bytes of one format become segments. Nothing here imports Airflow or pymilvus."""
