"""Fixtures of the unit tests: a directory to fill, and an Airflow home that is nobody's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.milvus1x_directory import Milvus1xDirectory

_home = tempfile.TemporaryDirectory(prefix="milvusdm-unit-tests-")
os.environ["AIRFLOW_HOME"] = _home.name  # before anything imports Airflow, which writes its settings there

settings.register_profile("unit", deadline=None)  # a busy machine is no failure
settings.load_profile("unit")


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return Milvus1xDirectory(tmp_path / "milvus")
