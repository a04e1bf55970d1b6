"""Under a real scheduler: a DAG that follows a migration, one that follows a copy, runs that wait for approval."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from airflow_provider_milvusdm.operators.plan_table import escape_markdown
from tests.support.airflow_runs import ENDED, DagRun, read_run, read_runs, read_task_logs
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.collections_2x import stored
from tests.support.directories import DIMENSION, random_rows, write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.processes import wait_until
from tests.support.targets import milvus_client

ARRIVED = "arrived"
"""A collection that no other test migrates."""
DAGS = """
from datetime import timedelta

from airflow.sdk import DAG, Asset, task

from airflow_provider_milvusdm.assets import create_asset
from airflow_provider_milvusdm.migration import migration_dag

SOON = {{"retries": 1, "retry_delay": timedelta(seconds=1)}}

move = migration_dag("asset_move", max_active_runs=8, default_args=SOON)
on_copy = migration_dag(
    "asset_on_copy",
    schedule=[Asset("file://{source}")],
    defaults={{"source_milvus_path": "{source}", "dest_uri": "{server}", "mode": "overwrite"}},
    default_args=SOON,
)

with DAG("asset_follower", schedule=[create_asset(host="127.0.0.1", port={port}, collection="{arrived}")]) as follower:

    @task
    def look(triggering_asset_events=None):
        for asset, events in triggering_asset_events.items():
            print(asset, [event.extra for event in events])

    look()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Milvus1xDirectory:
    folder = tmp_path_factory.mktemp("copied")
    return write_directory(folder / "milvus", {ARRIVED: {"_default": range(300), "2021-03 news": range(300, 400)}})


@pytest.fixture(scope="module", autouse=True)
def dags(airflow: StandaloneAirflow, directory: Milvus1xDirectory, milvus_server_uri: str) -> None:
    port = milvus_server_uri.rpartition(":")[2]
    server = f"http://127.0.0.1:{port}"
    airflow.add_dags("assets", DAGS.format(source=directory.path, server=server, port=port, arrived=ARRIVED))


def states(run: DagRun, *tasks: str) -> set[str | None]:
    return {task.state for task in run.tasks if task.task_id in tasks}


def events_of(airflow: StandaloneAirflow, run: DagRun) -> list[tuple[str, Mapping[str, Any]]]:
    """The asset events of a run: URI and extra."""
    path = f"/api/v2/assets/events?source_dag_id={run.dag_id}&source_run_id={quote(run.run_id)}"
    return [(event["uri"], event["extra"]) for event in airflow.call("GET", path)["asset_events"]]


def test_a_copied_directory_starts_a_migration_and_that_starts_a_dag_of_its_collection(
    airflow: StandaloneAirflow, directory: Milvus1xDirectory, milvus_server_uri: str
) -> None:
    wait_until(lambda: airflow._finds("/api/v2/dags/asset_on_copy"), 120, airflow.tails)
    assets = airflow.call("GET", f"/api/v2/assets?uri_pattern={quote(str(directory.path))}")["assets"]
    airflow.call("POST", "/api/v2/assets/events", {"asset_id": assets[0]["id"], "extra": {}})

    def ended(dag_id: str) -> bool:
        return any(run.state in ENDED for run in read_runs(airflow.env, dag_id))

    wait_until(
        lambda: ended("asset_follower"), 300, lambda: f"{read_runs(airflow.env, 'asset_on_copy')}\n{airflow.tails()}"
    )
    [moved], [followed] = read_runs(airflow.env, "asset_on_copy"), read_runs(airflow.env, "asset_follower")
    assert (moved.state, followed.state) == ("success", "success")
    uri = f"milvus://127.0.0.1:{milvus_server_uri.rpartition(':')[2]}/default/{ARRIVED}"
    [(found, extra)] = events_of(airflow, moved)
    assert (found, extra["rows"], extra["collection"], extra["run_id"]) == (uri, 400, ARRIVED, moved.run_id)
    assert uri in read_task_logs(airflow.env, followed)
    with milvus_client(milvus_server_uri) as client:
        assert stored(client, ARRIVED)["_default"] == directory.live(ARRIVED)


def write_rows(target: str, rows: int) -> dict[int, bytes]:
    """Make a collection `news` with other rows in a Milvus Lite file; the rows."""
    vectors = random_rows(range(rows), seed=7)
    with milvus_client(target) as client:
        client.create_collection("news", dimension=DIMENSION, vector_field_name="embedding", metric_type="L2")
        values = [{"id": row_id, "embedding": np.frombuffer(vector, "<f4")} for row_id, vector in vectors.items()]
        client.insert("news", values)
        client.flush("news")
    return vectors


def read_rows(target: str) -> dict[int, bytes]:
    """The rows of `news`, those of its partitions apart."""
    with milvus_client(target) as client:
        client.load_collection("news")
        return stored(client, "news")["_default"]


def test_no_event_for_a_dry_run_a_skipped_and_a_failed_collection_but_for_a_verified_one(
    airflow: StandaloneAirflow, tmp_path: Path
) -> None:
    collections = {name: {"_default": range(20)} for name in ("news", "bad", "more")}
    directory = write_directory(tmp_path / "milvus", collections)
    next((directory.tables_folder / "bad").rglob("*.rv")).write_bytes(b"short")
    targets = {name: str(tmp_path / f"{name}.db") for name in ("dry", "failed", "skipped")}
    write_rows(targets["skipped"], 5)
    conf = {
        "dry": {"source_collection": "news", "dry_run": True},
        "failed": {"source_collection": "news\nbad"},
        "skipped": {"source_collection": "news\nmore"},
    }
    source = {"source_milvus_path": str(directory.path)}
    run_ids = {
        name: airflow.trigger("asset_move", source | conf[name] | {"dest_uri": targets[name]}) for name in targets
    }
    runs = {name: airflow.wait_for_run("asset_move", run_id) for name, run_id in run_ids.items()}
    assert {name: run.state for name, run in runs.items()} == {
        "dry": "success",
        "failed": "failed",
        "skipped": "success",
    }
    assert {name: [uri for uri, _ in events_of(airflow, run)] for name, run in runs.items()} == {
        "dry": [],
        "failed": [f"file://{targets['failed']}/news"],
        "skipped": [f"file://{targets['skipped']}/more"],
    }
    assert len(read_runs(airflow.env, "asset_follower")) <= 1  # that of the test above


class Waiting:
    """A run with `approval: true` that waits."""

    def __init__(self, airflow: StandaloneAirflow, **conf: Any) -> None:
        self.airflow, self.run_id = airflow, airflow.trigger("asset_move", {"approval": True, **conf})
        self.path = f"/api/v2/dags/asset_move/dagRuns/{quote(self.run_id)}/taskInstances/approve_plan/-1/hitlDetails"

    def body(self) -> str:
        """What is shown, once it can be answered."""
        wait_until(self._waits, 300, lambda: f"{self._run()}\n{read_task_logs(self.airflow.env, self._run())}")
        self.airflow.wait_for_question("asset_move", self.run_id, "approve_plan")
        return str(self.airflow.call("GET", self.path)["body"])

    def answer(self, option: str) -> None:
        self.airflow.call("PATCH", self.path, {"chosen_options": [option], "params_input": {}})

    def end(self) -> DagRun:
        return self.airflow.wait_for_run("asset_move", self.run_id)

    def _run(self) -> DagRun:
        return read_run(self.airflow.env, "asset_move", self.run_id)

    def _waits(self) -> bool:
        return states(self._run(), "approve_plan") == {"awaiting_input"}


BEHIND = ("create_collection", "units", "load_partitions", "check_source", "verify_counts", "publish_assets")


def test_an_approved_plan_is_done_and_a_refused_late_or_changed_one_is_not(
    airflow: StandaloneAirflow, tmp_path: Path
) -> None:
    """Four runs wait at the same time, each for a target of its own that has the collection already."""
    new = write_directory(tmp_path / "new", {"news": {"_default": range(80), "<script>|": range(80, 90)}})
    names = ("approved", "refused", "late", "changed")
    targets = {name: str(tmp_path / f"{name}.db") for name in names}
    old = {name: write_rows(target, 50) for name, target in targets.items()}["refused"]
    conf = {"source_milvus_path": str(new.path), "mode": "overwrite"}
    runs = {
        name: Waiting(airflow, dest_uri=target, approval_hours=0.0005 if name == "late" else 1, **conf)
        for name, target in targets.items()
    }
    for name in ("approved", "refused", "changed"):
        body = runs[name].body()
        assert "1 collection overwritten: 90 rows to load, 50 rows lost" in body
        assert r"| news | news | overwritten | 90 | 50 | partitions &lt;script\>\| → \_script\_\_ |" in body
    with milvus_client(targets["changed"]) as client:
        client.insert("news", [{"id": 1000, "embedding": [0.0] * DIMENSION}])
        client.flush("news")
    runs["approved"].answer("Approve")
    runs["changed"].answer("Approve")
    runs["refused"].answer("Reject")
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        runs["refused"].answer("Approve")

    why = {
        "refused": "refused the plan. Nothing in the target was changed.",
        "late": "Nobody approved the plan within 0.0005 hours. Nothing in the target was changed.",
        "changed": "The plan has changed since it was shown for approval; a new run asks again.",
    }
    for name, text in why.items():
        run = runs[name].end()
        assert run.state == "failed"
        assert states(run, *BEHIND) == {"skipped"}
        assert states(run, "approve_plan", "report") == {"failed"}
        assert re.search(f"Nothing was migrated: .*{re.escape(text)}", read_task_logs(airflow.env, run))
    approved = runs["approved"].end()
    assert approved.state == "success", read_task_logs(airflow.env, approved)
    found = {name: read_rows(target) for name, target in targets.items()}
    assert found["approved"] == new.live("news")
    assert found["refused"] == found["late"] == old
    assert len(found["changed"]) == 51

    with milvus_client(targets["approved"]) as client:
        client.drop_collection("news")
    other = write_rows(targets["approved"], 5)
    airflow.clear(approved, "create_collection", downstream=True)
    again = runs["approved"].end()
    assert again.state == "failed"  # nobody approved that these rows are lost
    assert "is not as it was when the plan was approved" in read_task_logs(airflow.env, again)
    assert read_rows(targets["approved"]) == other


def test_a_plan_is_approved_for_the_target_that_was_shown_and_for_no_other(
    airflow: StandaloneAirflow, tmp_path: Path
) -> None:
    """The connection gets another address while the run waits; there, too, is a collection of as many rows."""
    new = write_directory(tmp_path / "new", {"news": {"_default": range(80)}})
    shown, other = str(tmp_path / "shown.db"), str(tmp_path / "other.db")
    write_rows(shown, 50)
    rows = write_rows(other, 50)
    connection = {"connection_id": "asset_moved", "conn_type": "milvus", "extra": json.dumps({"uri": shown})}
    airflow.call("POST", "/api/v2/connections", connection)
    run = Waiting(airflow, source_milvus_path=str(new.path), milvus_conn_id="asset_moved", mode="overwrite")
    assert f"Target: {escape_markdown(shown)}" in run.body()
    airflow.call("PATCH", "/api/v2/connections/asset_moved", connection | {"extra": json.dumps({"uri": other})})
    run.answer("Approve")
    ended = run.end()
    assert ended.state == "failed"
    assert "The plan has changed since it was shown for approval" in read_task_logs(airflow.env, ended)
    assert read_rows(other) == rows
    assert len(read_rows(shown)) == 50


def test_a_dry_run_and_a_run_that_changes_nothing_ask_nobody(airflow: StandaloneAirflow, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(30)}})
    conf = {"source_milvus_path": str(directory.path), "approval": True}
    dry = airflow.trigger("asset_move", conf | {"dest_uri": str(tmp_path / "dry.db"), "dry_run": True})
    write_rows(str(tmp_path / "there.db"), 5)
    skipped = airflow.trigger("asset_move", conf | {"dest_uri": str(tmp_path / "there.db")})
    runs = [airflow.wait_for_run("asset_move", run_id) for run_id in (dry, skipped)]
    assert [run.state for run in runs] == ["success", "success"]
    assert "nothing would be changed, so no approval is asked for" in read_task_logs(airflow.env, runs[1])
