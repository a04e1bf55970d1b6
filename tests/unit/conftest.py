"""Fixtures of the unit tests: a directory to fill."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.milvus1x_directory import Milvus1xDirectory

settings.register_profile("unit", deadline=None)  # a busy machine is no failure
settings.load_profile("unit")


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return Milvus1xDirectory(tmp_path / "milvus")
