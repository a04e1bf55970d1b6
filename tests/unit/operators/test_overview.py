"""What steps leave for people to see holds no secret."""

from __future__ import annotations

from airflow_provider_milvusdm.config.jobs import M2M
from airflow_provider_milvusdm.operators.overview import run_facts


def test_params_of_the_dag_itself_and_passwords_in_urls_are_left_out() -> None:
    params = {
        "source_milvus_path": "s3://key:secret@bucket/path",
        "rename": {"a": ["http://ada:secret@host/"]},
        "dest_uri": "http://milvus:19530",
        "own_api_key": "secret",
    }
    assert run_facts(M2M, params)["params"] == {
        "source_milvus_path": "s3://key:***@bucket/path",
        "rename": {"a": ["http://ada:***@host/"]},
        "dest_uri": "http://milvus:19530",
    }
