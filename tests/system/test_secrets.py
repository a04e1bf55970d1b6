"""Secrets stay in connections: a canary is in no log, no database and no output, whatever becomes of the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.airflow_home import dags_test, run_airflow
from tests.support.canary import CANARY, files_with
from tests.support.dag_templates import QUICK, write_dag
from tests.support.directories import write_directory
from tests.support.mariadb_server import MySqlAddress
from tests.support.processes import free_ports
from tests.support.terminal import Terminal, connection


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "milvus", {"news": {"_default": range(10)}}).path


def left_in(env: dict[str, str]) -> list[Path]:
    home = Path(env["AIRFLOW_HOME"])
    assert files_with("inspect_source", home), "the run left nothing to look into"
    return files_with(CANARY, home)


def test_of_a_server_that_takes_it(source: Path, empty_milvus_server_uri: str, templates_env: dict[str, str]) -> None:
    url = urlsplit(empty_milvus_server_uri)
    target = connection(conn_type="milvus", host=url.hostname, port=url.port, login="root", password=CANARY)
    env = templates_env | {"AIRFLOW_CONN_MILVUS_DEFAULT": target}
    ended = dags_test(env, "milvusdm_m2m", {"source_milvus_path": str(source)})

    assert ended.state == "success", ended.output
    assert CANARY not in ended.output
    assert left_in(env) == []


@pytest.mark.parametrize(
    "extra", [{"token": f"root:{CANARY}"}, {"uri": f"http://root:{CANARY}@127.0.0.1:1"}], ids=["token", "uri"]
)
def test_of_a_target_that_is_not_reached(
    source: Path, tmp_path: Path, airflow_home: Callable[[Path], dict[str, str]], extra: dict[str, str]
) -> None:
    [port] = free_ports(1)
    target = connection(conn_type="milvus", host="127.0.0.1", port=port, password=CANARY, extra=extra)
    env = airflow_home(write_dag(tmp_path / "dags", "quick", QUICK)) | {"AIRFLOW_CONN_MILVUS_DEFAULT": target}
    ended = dags_test(env, "quick", {"source_milvus_path": str(source)})

    assert ended.state == "failed", ended.output
    assert CANARY not in ended.output
    assert left_in(env) == []


def test_of_connections_that_airflow_keeps(source: Path, milvus_lite_uri: str, templates_env: dict[str, str]) -> None:
    """In its database they are encrypted."""
    file = source.parent / "connections.json"
    target = {"conn_type": "milvus", "login": "root", "password": CANARY, "extra": {"token": CANARY}}
    file.write_text(json.dumps({"milvus_default": target}))
    kept = run_airflow(templates_env, "connections", "import", str(file))
    assert kept.returncode == 0, kept.stdout
    conf = {"source_milvus_path": str(source), "dest_uri": milvus_lite_uri}
    ended = dags_test(templates_env, "milvusdm_m2m", conf)

    assert ended.state == "success", ended.output
    assert CANARY not in ended.output
    assert left_in(templates_env) == []


def test_of_a_connection_that_names_no_host_on_the_command_line(
    source: Path, empty_milvus_server_uri: str, terminal: Terminal
) -> None:
    """As MilvusDM's files have it: the file names the host, the connection the login."""
    url = urlsplit(empty_milvus_server_uri)
    path = terminal.write_yaml(source_milvus_path=str(source), dest_host=url.hostname, dest_port=url.port)
    login = connection(conn_type="milvus", login="root", password=CANARY)
    ended = terminal.milvusdm("--yaml", path, "--log", "airflow.log", env={"AIRFLOW_CONN_MILVUS_DEFAULT": login})

    assert ended.returncode == 0, ended.stdout
    assert CANARY not in ended.stdout + ended.stderr
    assert files_with(CANARY, terminal.folder) == []

    elsewhere = connection(conn_type="milvus", host="nowhere.invalid", login="root", password=CANARY)
    ended = terminal.milvusdm("--yaml", path, "--log", "second.log", env={"AIRFLOW_CONN_MILVUS_DEFAULT": elsewhere})
    assert ended.returncode == 1
    assert "The login of connection milvus_default is not for host 127.0.0.1" in ended.stdout
    assert CANARY not in ended.stdout + ended.stderr
    assert files_with(CANARY, terminal.folder) == []


def test_of_mysql_that_refuses_it_on_the_command_line(
    source: Path, mariadb_server: MySqlAddress, milvus_lite_uri: str, terminal: Terminal
) -> None:
    mysql = {
        "host": mariadb_server.host,
        "port": mariadb_server.port,
        "user": mariadb_server.user,
        "password": CANARY,
        "database": mariadb_server.database,
    }
    path = terminal.write_yaml(source_milvus_path=str(source), mysql_parameter=mysql, dest_uri=milvus_lite_uri)
    ended = terminal.milvusdm("--yaml", path, "--log", "airflow.log")

    assert ended.returncode == 1
    assert "MySQL refuses connection" in ended.stdout
    assert CANARY not in ended.stdout + ended.stderr
    assert "MySQL refuses connection" in (terminal.folder / "airflow.log").read_text()
    assert files_with(CANARY, terminal.folder) == [path]
