"""Shows the YAML files that can't become DAGs as an import error; those that can are in ``milvusdm_from_yaml``."""

from airflow_provider_milvusdm.yaml_dags import refuse_broken_files

refuse_broken_files()
