"""Bulk imports in a DAG run: with a triggerer, and without one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_run, read_task_logs, read_task_state
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.canary import files_with
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.milvus_servers import MilvusOnS3
from tests.support.object_storage import airflow_connection
from tests.support.printed import list_exports, read_blocks
from tests.support.processes import wait_until
from tests.support.targets import drop_all_collections, milvus_client

DAG_ID = "milvusdm_m2m"
IMPORTING = """
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag("{dag_id}", default_args={{"deferrable": {deferrable}}})
"""


def connection(uri: str, import_url: str) -> dict[str, Any]:
    """The fields of a connection to the server at `uri`."""
    address, extra = urlsplit(uri), json.dumps({"import_url": import_url})
    return {"conn_type": "milvus", "host": address.hostname, "port": address.port, "extra": extra}


def printed_connections(server: MilvusOnS3) -> dict[str, str]:
    """Those of docs/bulk-import.md, with the addresses and the login of this server and its object storage."""
    connections = {name: json.loads(value) for name, value in list_exports("bulk-import")}
    milvus, minio = connections["AIRFLOW_CONN_MILVUS_DEFAULT"], connections["AIRFLOW_CONN_MINIO"]
    url = milvus["extra"]["import_url"].replace("milvus-bucket", server.bucket)
    minio |= json.loads(airflow_connection(server.s3))
    milvus |= connection(server.uri, url)
    return {name: json.dumps(fields) for name, fields in connections.items()}


def check_stored(uri: str, expected: Mapping[str, Mapping[int, bytes]]) -> None:
    with milvus_client(uri) as client:
        assert stored(client, "news") == expected


def kill_load(env: Mapping[str, str], dag_id: str, run_id: str) -> bool:
    """Kill the load task by SIGKILL while it waits for the server; whether it did."""
    run = read_run(env, dag_id, run_id)
    [task] = [task for task in run.tasks if (task.task_id, task.map_index) == ("load_partitions", 0)] or [None]
    if not task or not task.pid or task.state != "running":
        return False
    with suppress(KeyError, IndexError):
        note = read_task_state(env, run, "load_partitions", map_index=0, key="0 bulk_import")
        if note["state"] == "staged" and all(part["job"] for part in note["staged"]["partitions"]):
            os.kill(task.pid, signal.SIGKILL)
            return True
    return False


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_load_task_waits_in_a_triggerer_or_in_its_worker_while_the_server_imports(
    airflow: StandaloneAirflow, empty_milvus_server_uri: str, tmp_path: Path, deferrable: bool
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(50_000), "a": range(50_000, 50_500)}})
    folder = tmp_path / "import"
    folder.mkdir()
    env, dag_id = airflow.env, f"imports_{'deferred' if deferrable else 'awaited'}"
    airflow.add_dags(dag_id, IMPORTING.format(deferrable=deferrable, dag_id=dag_id))
    fields = connection(empty_milvus_server_uri, folder.as_uri())
    airflow.call("POST", "/api/v2/connections", {"connection_id": dag_id, **fields})
    printed = yaml.safe_load(read_blocks("bulk-import")[0].text)["M2M"]
    assert printed["load_method"] == "bulk_import"
    conf = printed | {"source_milvus_path": str(directory.path), "verify": "full"}
    run_id = airflow.trigger(dag_id, conf | {"milvus_conn_id": dag_id})
    if not deferrable:
        wait_until(lambda: kill_load(env, dag_id, run_id), 300, airflow.tails)
    run = airflow.wait_for_run(dag_id, run_id)
    assert run.state == "success"
    tries = {task.map_index: task.try_number for task in run.tasks if task.task_id == "load_partitions"}
    assert tries == {0: 1 if deferrable else 2}
    log = read_task_logs(env, run)
    assert ("Pausing task as DEFERRED" in log) == deferrable
    assert read_task_state(env, run, "load_partitions", map_index=0, key="0 bulk_import")["state"] == "done"
    check_stored(empty_milvus_server_uri, {tag: directory.live("news", tag) for tag in ("_default", "a")})
    assert list(folder.iterdir()) == []


def test_an_import_from_s3_ends_without_a_triggerer_and_its_secret_is_not_told(
    milvus_on_s3: MilvusOnS3, templates_env: dict[str, str], tmp_path: Path
) -> None:
    drop_all_collections(milvus_on_s3.uri)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(300)}})
    s3 = milvus_on_s3.s3
    env = templates_env | printed_connections(milvus_on_s3)
    ended = dags_test(env, DAG_ID, {"source_milvus_path": str(directory.path), "load_method": "auto"})
    assert (ended.returncode, ended.state) == (0, "success"), ended.output
    assert "import job" in ended.output
    assert s3.secret_key not in ended.output
    assert files_with(s3.secret_key, Path(env["AIRFLOW_HOME"])) == []
    check_stored(milvus_on_s3.uri, {"_default": directory.live("news")})
