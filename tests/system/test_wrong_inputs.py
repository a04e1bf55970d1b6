"""Ten mistakes that people make: which task is red, what its log says, and what the Migration page says.

The table of docs/migration-page.md is what is expected here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from playwright.sync_api import Page, expect

from airflow_provider_milvusdm.exceptions import CURE, split_cure
from tests.support.airflow_runs import DagRun
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.browser import migration_tab, screenshot
from tests.support.collections_2x import make_collection
from tests.support.directories import random_rows, write_directory
from tests.support.grpc_proxy import holding_proxy
from tests.support.processes import free_ports
from tests.support.repository import ROOT
from tests.support.targets import drop_all_collections, milvus_client

DAGS = """
import resource
from datetime import timedelta

from airflow_provider_milvusdm.config.jobs import M2H
from airflow_provider_milvusdm.migration import migration_dag


def fill_disk(context):
    \"\"\"For HDF5, a limit on the size of files is the same as a full disk.\"\"\"
    if context["ti"].task_id == "export_partitions":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


soon = {"retries": 1, "retry_delay": timedelta(seconds=1)}
for name in ("path", "host", "port", "database", "password", "collection", "partition", "mode", "memory"):
    globals()[name] = migration_dag(f"wrong_{name}", default_args=soon)
disk = migration_dag("wrong_disk", M2H, default_args=soon | {"pre_execute": fill_disk})
"""
BEHIND = {
    "inspect_source": {"report"},
    "resolve_ids": {"verify_counts", "report"},
    "create_collection": {"verify_counts", "report"},
    "export_partitions": {"verify_counts", "report"},
}
"""Tasks that are red, too, by the task where the mistake is found."""


@dataclass(frozen=True)
class Mistake:
    """A row of the table."""

    name: str
    task: str
    says: str
    """A message; `…` stands for any text."""


def to_pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace("…", ".*"), re.DOTALL)


def read_table() -> list[Mistake]:
    text = (ROOT / "docs" / "migration-page.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## What common mistakes look like")
    rows = re.findall(r"^\| ([a-z]+): .* \| `([a-z_]+)`.* \| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return [Mistake(name, task, says.replace("`", "")) for name, task, says in rows]


MISTAKES = read_table()


@pytest.fixture(scope="module")
def confs(
    tmp_path_factory: pytest.TempPathFactory, milvus_server_uri: str, airflow: StandaloneAirflow
) -> Iterator[Any]:
    """What each run is started with."""
    folder = tmp_path_factory.mktemp("wrong")
    source = write_directory(folder / "milvus", {"news": {"_default": range(20)}}).path
    with milvus_client(str(folder / "full.db")) as client:
        make_collection(client, "news", {"_default": random_rows(range(20), 7)})
    drop_all_collections(milvus_server_uri)  # mode skip would leave a collection of this name as it is
    [port] = free_ports(1)
    server = urlsplit(milvus_server_uri)
    good = {"source_milvus_path": str(source), "dest_uri": str(folder / "target.db")}
    to_server = {"source_milvus_path": str(source), "dest_host": server.hostname}
    with holding_proxy(milvus_server_uri) as proxy:
        proxy.refused["Connect"] = grpc.StatusCode.UNAUTHENTICATED  # as a server does that has authorization enabled
        connect(airflow, "mistaken_database", milvus_server_uri, schema="nowhere")
        connect(airflow, "mistaken_password", proxy.uri, login="root", password="wrong")
        yield {
            "path": good | {"source_milvus_path": f"{source}s"},
            "host": to_server | {"dest_host": "nowhere.invalid"},
            "port": to_server | {"dest_port": port},
            "database": {"source_milvus_path": str(source), "milvus_conn_id": "mistaken_database"},
            "password": {"source_milvus_path": str(source), "milvus_conn_id": "mistaken_password"},
            "collection": good | {"source_collection": "newss"},
            "partition": good | {"source_collection": "news/2021"},
            "mode": good | {"dest_uri": str(folder / "full.db"), "mode": "append"},
            "memory": to_server | {"dest_port": server.port, "target": {"replicas": 2}},
            "disk": {"source_milvus_path": str(source), "data_dir": str(folder / "out")},
        }


def connect(airflow: StandaloneAirflow, name: str, uri: str, **fields: str) -> None:
    url = urlsplit(uri)
    address = {"connection_id": name, "conn_type": "milvus", "host": url.hostname, "port": url.port}
    airflow.call("POST", "/api/v2/connections", address | fields)


@pytest.fixture(scope="module")
def runs(airflow: StandaloneAirflow, confs: Mapping[str, Any]) -> Mapping[str, DagRun]:
    """All of them, started together, once they have ended."""
    airflow.add_dags("wrong_inputs", DAGS)
    run_ids = {name: airflow.trigger(f"wrong_{name}", conf) for name, conf in confs.items()}
    return {name: airflow.wait_for_run(f"wrong_{name}", run_id, seconds=900) for name, run_id in run_ids.items()}


def last_error(airflow: StandaloneAirflow, run: DagRun, task_id: str) -> str:
    """The last error in the log of the task's last attempt."""
    folder = Path(airflow.env["AIRFLOW_HOME"], "logs", f"dag_id={run.dag_id}", f"run_id={run.run_id}")
    *_, log = sorted((folder / f"task_id={task_id}").rglob("*.log"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    *_, error = [line for line in lines if line.get("level") == "error"]
    return str(error["error_detail"][0]["exc_value"])


def test_ten_mistakes_are_described() -> None:
    assert [mistake.name for mistake in MISTAKES] == [
        *("path", "host", "port", "database", "password", "collection", "partition", "mode", "memory", "disk")
    ]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_understood_at_first_sight(
    mistake: Mistake, page: Page, airflow: StandaloneAirflow, runs: Mapping[str, DagRun]
) -> None:
    run = runs[mistake.name]
    assert run.state == "failed"
    assert {task.task_id for task in run.tasks if task.state == "failed"} == {mistake.task, *BEHIND[mistake.task]}
    assert to_pattern(mistake.says).search(last_error(airflow, run, mistake.task))
    assert to_pattern(mistake.says).search(last_error(airflow, run, "report"))
    tab = migration_tab(page, airflow.url, run.dag_id, run.run_id)
    expect(tab.locator("#headline .chip")).to_have_text("failed")
    fault = tab.get_by_role("list", name="Faults").get_by_role("listitem").first
    text, cure = split_cure(mistake.says)
    expect(fault.locator(".fault")).to_contain_text(to_pattern(text))
    expect(fault.locator(".cure")).to_contain_text(CURE + cure)
    expect(fault).to_be_in_viewport(ratio=1)
    screenshot(page, f"wrong-{mistake.name}")


def test_a_mode_that_does_not_exist_is_refused_before_the_run(
    airflow: StandaloneAirflow, confs: Mapping[str, Any], runs: Mapping[str, DagRun]
) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400") as refused:
        airflow.trigger("wrong_mode", confs["mode"] | {"mode": "replace"})
    assert "'replace' is not one of ['skip', 'append', 'overwrite', 'sync', 'abandon']" in refused.value.response.text
