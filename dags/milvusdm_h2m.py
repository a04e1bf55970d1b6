"""HDF5 → Milvus 2.x.

Trigger it in Airflow's UI, which has a form for the params, or test it with
``airflow dags test milvusdm_h2m -c '{"data_dir": "/data/hdf5", "dest_collection_name": "images"}'``.
For a schedule, copy this file and add ``schedule`` and ``defaults``.
"""

from airflow_provider_milvusdm.config.jobs import H2M
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag(
    "milvusdm_h2m",
    H2M,
    description="HDF5 files into Milvus 2.x",
    dag_display_name="HDF5 → Milvus 2.x",
)
