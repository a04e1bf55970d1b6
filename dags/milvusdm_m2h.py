"""Milvus 1.x → HDF5.

Trigger it in Airflow's UI, which has a form for the params, or test it with
``airflow dags test milvusdm_m2h -c '{"source_milvus_path": "/data/milvus", "data_dir": "/data/hdf5"}'``.
For a schedule, copy this file and add ``schedule`` and ``defaults``.
"""

from airflow_provider_milvusdm.config.jobs import M2H
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag(
    "milvusdm_m2h",
    M2H,
    description="Collections of a Milvus 1.x data directory into HDF5 files",
    dag_display_name="Milvus 1.x → HDF5",
)
