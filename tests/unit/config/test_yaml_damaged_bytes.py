"""Whatever the bytes of a YAML file are, reading it ends well or with an error of this package."""

from __future__ import annotations

import pytest

from airflow_provider_milvusdm.config.yaml_file import read_yaml
from tests.support.fuzzing import CASES, damaged_files, fuzz
from tests.unit.config.test_yaml_file import MILVUSDM_OWN, MILVUSDMS_OTHERS

NAME = "job.yaml"
OURS = """\
M2M:
  source_milvus_path: /data/milvus
  source_collection: {news: ["2021", '新闻'], "*": null}
  dest_uri: >-
    lite.db
  schedule: "@daily"
  start_date: 2021-01-31
  tags: [!!str 7, on, 0x1F, 1_000, 1e3]
"""


@pytest.mark.parametrize("cases", CASES)
def test_damaged_bytes_give_an_error_of_this_package_or_none(cases: int) -> None:
    files = [{NAME: text.encode()} for text in (OURS, MILVUSDM_OWN, *MILVUSDMS_OTHERS.values())]
    fuzz(cases, damaged_files(files), files[1], lambda source: read_yaml(source / NAME))
