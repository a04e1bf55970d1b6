"""The real directory's catalog in MySQL, where a 1.x server may have kept it: same rows, the password nowhere."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import MySQLdb
import pytest
import yaml

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_task_logs
from tests.support.canary import files_with
from tests.support.mariadb_server import MySqlAddress
from tests.support.milvus1x_catalog import copy_catalog_to_mysql
from tests.support.printed import list_exports, read_blocks
from tests.support.real_directory import SOURCE, expected_collections, found_collections
from tests.support.terminal import Terminal, connection


@pytest.fixture(scope="module")
def mysql(real_data: Path, mariadb_server: MySqlAddress) -> MySqlAddress:
    """A server that holds the catalog."""
    with closing(MySQLdb.connect(**asdict(mariadb_server), charset="utf8mb4")) as client:
        copy_catalog_to_mysql(real_data / SOURCE / "db" / "meta.sqlite", client)
    return mariadb_server


@pytest.fixture(scope="module")
def source(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory without its own catalog."""
    copy = tmp_path_factory.mktemp("without-catalog") / SOURCE
    return shutil.copytree(real_data / SOURCE, copy, ignore=shutil.ignore_patterns("meta.sqlite*"))


def airflow_connection(address: MySqlAddress) -> dict[str, str]:
    """The variable with the connection that the page M2M prints, with another address."""
    [(variable, printed)] = list_exports("m2m")
    fields = {
        "conn_type": "mysql",
        "host": address.host,
        "port": address.port,
        "login": address.user,
        "password": address.password,
        "schema": address.database,
    }
    assert list(json.loads(printed)) == list(fields)
    return {variable: connection(**fields)}


def secret(address: MySqlAddress) -> str:
    """The part of the password that no quoting changes."""
    return address.password.split("/")[1].rstrip("%:")


def test_airflow_reads_it_by_a_connection(
    source: Path, mysql: MySqlAddress, real_data: Path, milvus_lite_uri: str, templates_env: dict[str, str]
) -> None:
    env = templates_env | airflow_connection(mysql)
    conf = {"source_milvus_path": str(source), "mysql_conn_id": "catalog", "dest_uri": milvus_lite_uri}
    ended = dags_test(env, "milvusdm_m2m", conf)

    assert ended.state == "success", ended.output
    assert found_collections(milvus_lite_uri, source) == expected_collections(real_data)
    assert secret(mysql) not in ended.output
    assert files_with(secret(mysql), Path(env["AIRFLOW_HOME"])) == []


def test_the_command_line_reads_it_by_mysql_parameter(
    source: Path, mysql: MySqlAddress, real_data: Path, milvus_lite_uri: str, terminal: Terminal
) -> None:
    _, printed = (yaml.safe_load(block.text)["M2M"] for block in read_blocks("m2m") if block.language == "yaml")
    assert set(printed.pop("mysql_parameter")) == set(asdict(mysql))
    assert printed.pop("dest_host")
    changed = {"source_milvus_path": str(source), "mysql_parameter": asdict(mysql), "dest_uri": milvus_lite_uri}
    ended = terminal.migrate(**printed | changed)

    assert ended.returncode == 0, ended
    assert found_collections(milvus_lite_uri, source) == expected_collections(real_data)
    assert secret(mysql) not in ended.stdout + ended.stderr
    assert files_with(secret(mysql), terminal.folder) == [terminal.folder / "M2M.yaml"]


def test_a_wrong_password_is_told_and_not_tried_again(
    source: Path, mysql: MySqlAddress, milvus_lite_uri: str, templates_env: dict[str, str]
) -> None:
    wrong = replace(mysql, password="wr/ong-password%:")
    env = templates_env | airflow_connection(wrong)
    conf = {"source_milvus_path": str(source), "mysql_conn_id": "catalog", "dest_uri": milvus_lite_uri}
    ended = dags_test(env, "milvusdm_m2m", conf)

    assert ended.run is not None, ended.output
    [inspect] = [task for task in ended.run.tasks if task.task_id == "inspect_source"]
    assert (ended.state, inspect.state, inspect.try_number) == ("failed", "failed", 1)
    assert "MySQL refuses connection catalog" in ended.output
    assert secret(wrong) not in ended.output + read_task_logs(env, ended.run)


def test_an_unknown_connection_is_told_and_not_tried_again(source: Path, templates_env: dict[str, str]) -> None:
    conf = {"source_milvus_path": str(source), "mysql_conn_id": "nobody", "dest_uri": "never.db"}
    ended = dags_test(templates_env, "milvusdm_m2m", conf)

    assert ended.run is not None, ended.output
    [inspect] = [task for task in ended.run.tasks if task.task_id == "inspect_source"]
    assert (ended.state, inspect.state, inspect.try_number) == ("failed", "failed", 1)
    assert "The conn_id `nobody` isn't defined" in ended.output
