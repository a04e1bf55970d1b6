"""One DAG of each YAML file in ``MILVUSDM_CONFIG_DIR`` (or ``config_dir`` of Airflow's section ``[milvusdm]``)."""

from airflow_provider_milvusdm.yaml_dags import make_dags

globals().update(make_dags())
