"""Migrations through Airflow and on the command line, as their users start them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.support.airflow_home import airflow_env
from tests.support.airflow_standalone import COMPONENTS, StandaloneAirflow, standalone_airflow
from tests.support.browser import browser_page
from tests.support.dag_templates import TEMPLATES, copy_template
from tests.support.terminal import Terminal


@pytest.fixture
def templates_env(airflow_home: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    """The environment of a new Airflow home whose DAGs are the project's own."""
    return airflow_home(TEMPLATES)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A shell in a folder of its own, to run `milvusdm` in."""
    return Terminal(tmp_path / "terminal")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of a browser of the test file's own."""
    with browser_page() as page:
        yield page


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, airflow_database: Path) -> Iterator[StandaloneAirflow]:
    """A real Airflow with the DAG `milvusdm_m2m`, one for the whole session; tests add DAGs of their own."""
    folder = tmp_path_factory.mktemp("airflow")
    dags = copy_template(folder / "dags", "milvusdm_m2m")
    env = airflow_env(folder / "airflow", dags, airflow_database) | {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    with standalone_airflow(env, (*COMPONENTS, "triggerer")) as airflow:
        yield airflow
