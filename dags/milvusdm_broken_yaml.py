"""Shows the YAML files that can't become DAGs as an import error; ``milvusdm_from_yaml`` has the other files."""

from airflow_provider_milvusdm.yaml_dags import refuse_broken_files

refuse_broken_files()
