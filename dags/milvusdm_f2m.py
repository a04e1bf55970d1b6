"""Faiss → Milvus 2.x.

Trigger it in Airflow's UI, which has a form for the params, or test it with
``airflow dags test milvusdm_f2m -c '{"data_path": "/data/faiss.index", "dest_collection_name": "images"}'``.
For a schedule, copy this file and add ``schedule`` and ``defaults``.
"""

from airflow_provider_milvusdm.config.jobs import F2M
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag(
    "milvusdm_f2m",
    F2M,
    description="A Faiss index into Milvus 2.x",
    dag_display_name="Faiss → Milvus 2.x",
)
