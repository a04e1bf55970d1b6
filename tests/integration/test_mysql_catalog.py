"""A catalog kept in MySQL is read through Airflow's own hook as the same one in SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import MySQLdb
import pytest
from airflow.providers.mysql.hooks.mysql import MySqlHook
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import ConfigurationError, UnsupportedSourceError
from airflow_provider_milvusdm.operators.milvus1x import Milvus1xInspectOperator
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.sources.milvus1x_catalog import Catalog
from airflow_provider_milvusdm.sources.milvus1x_tables import read_catalog, read_sqlite_catalog
from tests.certificates import Certificates, write_certificates
from tests.chain import Chain
from tests.collections_2x import stored
from tests.directories import write_directory
from tests.integration.rich_directory import write_rich_directory
from tests.mariadb_server import MySqlAddress, mariadb
from tests.milvus1x_catalog import copy_catalog_to_mysql
from tests.milvus1x_directory import Milvus1xDirectory

Connect = Callable[..., None]


@pytest.fixture
def database(mariadb_server: MySqlAddress) -> Iterator[Any]:
    """The empty database of a server."""
    with closing(MySQLdb.connect(**asdict(mariadb_server), charset="utf8mb4")) as connection:
        cursor = connection.cursor()
        cursor.execute(f"DROP DATABASE {mariadb_server.database}")
        cursor.execute(f"CREATE DATABASE {mariadb_server.database} CHARACTER SET utf8mb4")
        cursor.execute(f"USE {mariadb_server.database}")
        yield connection


@pytest.fixture
def connect(mariadb_server: MySqlAddress, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Make Airflow's connection `catalog` to the server, with some of its fields changed."""

    def connect(**changed: Any) -> None:
        connection = {
            "conn_type": "mysql",
            "host": mariadb_server.host,
            "port": mariadb_server.port,
            "login": mariadb_server.user,
            "password": mariadb_server.password,
            "schema": mariadb_server.database,
        }
        monkeypatch.setenv("AIRFLOW_CONN_CATALOG", json.dumps(connection | changed))

    connect()
    return connect


def mysql_catalog(origin: str) -> Catalog:
    with closing(MySqlHook(mysql_conn_id="catalog").get_conn()) as connection:
        return read_catalog(connection, origin)


def inspect(path: Path, **arguments: Any) -> Any:
    """What the inspect task of a DAG hands on."""
    context: Any = {}
    return Milvus1xInspectOperator(task_id="inspect", source_milvus_path=str(path), **arguments).step(context)


@pytest.fixture
def rich(tmp_path: Path, database: Any, connect: Connect) -> Milvus1xDirectory:
    """A directory of everything, its catalog in both."""
    directory = write_rich_directory(tmp_path / "milvus")
    directory.write_mysql(database)
    return directory


def test_the_catalog_is_the_same_in_both(rich: Milvus1xDirectory) -> None:
    sqlite = read_sqlite_catalog(rich.catalog_path)
    assert len(sqlite.collections) == 9
    assert mysql_catalog(sqlite.origin) == sqlite


def test_the_catalog_of_a_real_server_is_the_same_in_both(real_data: Path, database: Any, connect: Connect) -> None:
    path = real_data / "milvus" / "db" / "meta.sqlite"
    copy_catalog_to_mysql(path, database)
    sqlite = read_sqlite_catalog(path)
    assert len(sqlite.collections) == 4
    assert mysql_catalog(sqlite.origin) == sqlite


def test_a_task_finds_the_same_partitions_in_both(rich: Milvus1xDirectory) -> None:
    assert inspect(rich.path, mysql_conn_id="catalog") == inspect(rich.path)


def test_a_directory_without_a_catalog_of_its_own_arrives(
    lite_client: MilvusClient, tmp_path: Path, database: Any, connect: Connect
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(9), "新闻": [-1, 2]}})
    directory.write_mysql(database)
    directory.catalog_path.unlink()
    report = Chain(directory.path, lite_client, mysql_catalog("MySQL")).run()["news"]
    assert report.status == VERIFIED
    assert stored(lite_client, "news") == {"_default": directory.live("news"), "__": directory.live("news", "新闻")}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"password": "wrong"}, "Access denied for user"),
        ({"schema": "nowhere"}, "database 'nowhere'"),
    ],
)
def test_a_connection_that_mysql_refuses_is_told_with_its_cure(
    tmp_path: Path, connect: Connect, changed: dict[str, Any], found: str
) -> None:
    connect(**changed)
    with pytest.raises(ConfigurationError) as error:
        inspect(tmp_path, mysql_conn_id="catalog")
    assert "MySQL refuses connection catalog" in str(error.value)
    assert found in str(error.value)
    assert "Correct the connection's login, password and schema" in str(error.value)


def test_a_server_that_is_away_is_left_to_a_retry(tmp_path: Path, connect: Connect) -> None:
    connect(port=1)
    with pytest.raises(MySQLdb.OperationalError):
        inspect(tmp_path, mysql_conn_id="catalog")


def test_a_database_that_holds_no_catalog_is_refused(tmp_path: Path, database: Any, connect: Connect) -> None:
    with pytest.raises(UnsupportedSourceError, match=r"able Tables is not that of a Milvus 1\.x catalog"):
        inspect(tmp_path, mysql_conn_id="catalog")


SERVER_NAME = "127.0.0.1"
"""What the guarded server's certificate names; `127.1` leads there too."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"), SERVER_NAME)


@pytest.fixture(scope="module")
def guarded(certificates: Certificates) -> Iterator[MySqlAddress]:
    with mariadb(certificates) as address:
        yield address


@pytest.fixture
def dial(guarded: MySqlAddress, certificates: Certificates, connect: Connect, tmp_path: Path) -> Callable[[str], None]:
    """Makes the connection to the guarded server, with TLS and something wrong."""
    others = write_certificates(tmp_path / "others", SERVER_NAME)

    def dial(wrong: str) -> None:
        connect(
            host="127.1" if wrong.startswith("name") else guarded.host,
            port=guarded.port,
            password=guarded.password,
            extra={"ssl": {"ca": str(others.authority if wrong == "authority" else certificates.authority)}}
            | ({"ssl_mode": "REQUIRED"} if wrong == "name, said to be none" else {}),
        )

    return dial


@pytest.mark.parametrize("wrong", ["nothing", "name, said to be none"])
def test_a_server_with_tls_is_reached(tmp_path: Path, dial: Callable[[str], None], wrong: str) -> None:
    dial(wrong)
    with pytest.raises(UnsupportedSourceError, match="able Tables is not that of"):
        inspect(tmp_path, mysql_conn_id="catalog")


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_that_can_not_prove_who_it_is_is_refused(
    tmp_path: Path, dial: Callable[[str], None], wrong: str
) -> None:
    dial(wrong)
    with pytest.raises(MySQLdb.OperationalError, match="TLS/SSL error"):
        inspect(tmp_path, mysql_conn_id="catalog")
