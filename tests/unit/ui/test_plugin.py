"""The plugin that every component of Airflow imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import xcom

from airflow_provider_milvusdm.ui import stored_run
from airflow_provider_milvusdm.ui.plugin import PREFIX, MilvusdmPlugin

IMPORTED = """
import sys, airflow.plugins_manager
before = set(sys.modules)
import airflow_provider_milvusdm.ui.plugin
print(*sorted(set(sys.modules) - before))
"""


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    [found] = [point for point in entry_points(group="airflow.plugins") if point.name == "milvusdm"]
    assert found.load() is MilvusdmPlugin


@pytest.mark.slow
def test_the_plugin_imports_nothing_but_itself() -> None:
    command = [sys.executable, "-c", IMPORTED]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    package = "airflow_provider_milvusdm"
    assert {f"{package}.ui.plugin"} <= set(found) <= {package, f"{package}.ui", f"{package}.ui.plugin"}


def test_the_tab_is_on_runs_and_below_the_plugins_routes() -> None:
    [view] = MilvusdmPlugin.external_views
    [app] = MilvusdmPlugin.fastapi_apps
    assert view["destination"] == "dag_run"
    assert f"/{view['href']}" == f"{PREFIX}/dags/{{DAG_ID}}/runs/{{RUN_ID}}/"
    assert app["url_prefix"] == PREFIX


def test_a_value_that_a_backend_keeps_elsewhere_is_read_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(BaseXCom):
        @staticmethod
        def deserialize_value(result: SimpleNamespace) -> object:
            return ["kept in", result.value]

    assert stored_run._value([1, 2]) == [1, 2]
    monkeypatch.setattr(xcom, "XCom", Elsewhere)
    assert stored_run._value("s3://bucket/value") == ["kept in", "s3://bucket/value"]
