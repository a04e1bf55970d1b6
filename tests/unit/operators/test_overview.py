"""The facts of a run, which its report repeats, hold no secret that somebody wrote into a param."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_milvusdm.config.jobs import H2M, M2M
from airflow_provider_milvusdm.operators.overview import run_facts


@pytest.mark.parametrize(
    "value",
    [
        "https://ada:secret@files/a.h5",
        "https://ada:se/secret@files/a.h5",
        "https://ada:s@secret@files/a.h5",
        "https://ada:s secret@files/a.h5",
        ["https://ada:secret@files/a.h5"],
        {"news": "https://ada:secret@files/a.h5"},
    ],
)
def test_a_password_in_a_url_is_not_repeated(value: Any) -> None:
    text = json.dumps(run_facts(H2M, {"data_path": value}))
    assert "secret" not in text
    assert "https://ada:***@files/a.h5" in text


@pytest.mark.parametrize("value", ["s3://conn@bucket/a:b@c.h5", "milvus:19530", "/data/a:b@c"])
def test_other_values_stay_as_they_are(value: str) -> None:
    assert run_facts(H2M, {"data_path": value})["params"] == {"data_path": value}


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
