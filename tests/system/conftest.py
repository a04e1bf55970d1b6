"""Migrations through Airflow and on the command line, as their users start them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.dag_templates import TEMPLATES
from tests.support.terminal import Terminal


@pytest.fixture
def templates_env(airflow_home: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    """The environment of a new Airflow home whose DAGs are the project's own."""
    return airflow_home(TEMPLATES)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A shell in a folder of its own, to run `milvusdm` in."""
    return Terminal(tmp_path / "terminal")
