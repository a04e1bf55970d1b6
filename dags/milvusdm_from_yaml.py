"""A DAG for each YAML file in ``MILVUSDM_CONFIG_DIR`` (or ``config_dir`` in section ``[milvusdm]`` of airflow.cfg)."""

from airflow_provider_milvusdm.yaml_dags import make_dags

globals().update(make_dags())
