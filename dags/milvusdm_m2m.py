"""Milvus 1.x → Milvus 2.x.

Trigger it in Airflow's UI, which has a form for the params, or test it with
``airflow dags test milvusdm_m2m -c '{"source_milvus_path": "/data/milvus", "dest_host": "milvus"}'``.
For a schedule, copy this file and add ``schedule`` and ``defaults``.
"""

from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag(
    "milvusdm_m2m",
    description="Migrate collections of a Milvus 1.x data directory to Milvus 2.x",
    dag_display_name="Milvus 1.x → Milvus 2.x",
)
