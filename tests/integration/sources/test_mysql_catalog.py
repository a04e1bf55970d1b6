"""A catalog in MySQL, read through Airflow's hook, is the same as in SQLite."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import MySQLdb
import pytest
from airflow.providers.mysql.hooks.mysql import MySqlHook
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError, UnsupportedSourceError
from airflow_provider_milvusdm.manifests import to_json
from airflow_provider_milvusdm.operators.milvus1x import Milvus1xInspectOperator
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog
from airflow_provider_milvusdm.sources.milvus1x.mysql import read_mysql_catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog
from tests.support.certificates import Certificates, write_certificates
from tests.support.chain import Chain
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.mariadb_server import ADMIN, MySqlAddress, mariadb
from tests.support.milvus1x_catalog import copy_catalog_to_mysql
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import assert_in_order
from tests.support.rich_directory import write_rich_directory
from tests.support.tcp_proxy import cutting_proxy

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
        return read_mysql_catalog(connection, origin)


def inspect(path: Path, **arguments: Any) -> Any:
    """The result of a DAG's inspect task."""
    operator = Milvus1xInspectOperator(task_id="inspect", source_milvus_path=str(path), **arguments)
    return [to_json(group) for group in operator.inspect()]


@pytest.fixture
def rich(tmp_path: Path, database: Any, connect: Connect) -> Milvus1xDirectory:
    """The rich directory, with its catalog in both."""
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


def test_a_directory_without_a_catalog_file_arrives(
    lite_client: MilvusClient, tmp_path: Path, database: Any, connect: Connect
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(9), "新闻": [-1, 20]}})
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
def test_a_connection_that_mysql_refuses_is_reported_with_its_cure(
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
    with pytest.raises(UnsupportedSourceError, match=r"able Tables does not belong to a Milvus 1\.x catalog"):
        inspect(tmp_path, mysql_conn_id="catalog")


TAGS = ["Nëws 中", "news", "News", "news ", "néws", "ÁÍÏÐÝ あ"]
"""A collation takes two of them for equal; the last has bytes that cp1252 does not define."""


@contextmanager
def server_of_1x(address: MySqlAddress, connection_charset: str, database_charset: str) -> Iterator[Any]:
    """The connection of a 1.x server, to a new database."""
    with closing(MySQLdb.connect(**asdict(address), charset=connection_charset)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"DROP DATABASE {address.database}")
        cursor.execute(f"CREATE DATABASE {address.database} CHARACTER SET {database_charset}")
        cursor.execute(f"USE {address.database}")
        yield connection


@pytest.mark.parametrize(
    ("connection_charset", "database_charset"),
    [("latin1", "utf8mb4"), ("latin1", "latin1"), ("latin1", "utf8mb3"), ("utf8mb4", "utf8mb4")],
)
def test_tags_are_right_whatever_charset_the_server_wrote_them_in(
    mariadb_server: MySqlAddress,
    lite_client: MilvusClient,
    tmp_path: Path,
    connect: Connect,
    connection_charset: str,
    database_charset: str,
) -> None:
    ids = {"_default": range(3)} | {tag: [10 * number] for number, tag in enumerate(TAGS, 1)}
    directory = write_directory(tmp_path / "milvus", {"news": ids})
    with server_of_1x(mariadb_server, connection_charset, database_charset) as server:
        directory.write_mysql(server)
    assert mysql_catalog("MySQL").tags("news") == ["_default", *TAGS]
    rename = {f"news/{tag}": f"part_{number}" for number, tag in enumerate(TAGS)}
    report = Chain(directory.path, lite_client, mysql_catalog("MySQL")).run(rename=rename)["news"]
    assert report.status == VERIFIED
    expected = {rename[f"news/{tag}"]: directory.live("news", tag) for tag in TAGS}
    assert stored(lite_client, "news") == {"_default": directory.live("news")} | expected
    assert any("over a latin1 connection" in note for note in report.notes) == (connection_charset == "latin1")


def write_tags(address: MySqlAddress, path: Path, charset: str, tags: list[str]) -> Milvus1xDirectory:
    directory = write_directory(path, {"news": {tag: [number] for number, tag in enumerate(tags)}})
    with server_of_1x(address, charset, "utf8mb4") as server:
        directory.write_mysql(server)
    return directory


def tags_of(groups: Any) -> list[str]:
    return [partition["tag"] for group in groups for partition in group["partitions"]]


def test_the_charset_is_asked_for_if_it_can_not_be_detected(
    mariadb_server: MySqlAddress, tmp_path: Path, connect: Connect
) -> None:
    directory = write_tags(mariadb_server, tmp_path / "milvus", "utf8mb4", ["NÃ«ws", "新闻"])
    with pytest.raises(ConfigurationError) as error:
        inspect(directory.path, mysql_conn_id="catalog")
    assert_in_order(str(error.value), ["'新闻' in UTF-8, 'NÃ«ws' in either", "mysql_charset: utf8mb4"])
    found = inspect(directory.path, mysql_conn_id="catalog", mysql_charset="utf8mb4")
    assert tags_of(found) == ["_default", "NÃ«ws", "新闻"]
    with pytest.raises(DamagedSourceError, match=r"not written over a latin1 connection.*'新闻'"):
        inspect(directory.path, mysql_conn_id="catalog", mysql_charset="latin1")


def test_ambiguous_names_are_decoded_as_the_param_says(
    mariadb_server: MySqlAddress, tmp_path: Path, connect: Connect
) -> None:
    directory = write_tags(mariadb_server, tmp_path / "milvus", "latin1", ["Nëws"])
    for charset, tag in (("auto", "Nëws"), ("latin1", "Nëws"), ("utf8mb4", "NÃ«ws")):
        assert tags_of(inspect(directory.path, mysql_conn_id="catalog", mysql_charset=charset)) == ["_default", tag]


@pytest.fixture
def reader(mariadb_server: MySqlAddress, connect: Connect) -> Iterator[Callable[[str], None]]:
    """Makes the connection that of a user with only these rights."""
    with closing(MySQLdb.connect(**asdict(replace(mariadb_server, user=ADMIN)))) as admin:
        cursor = admin.cursor()
        cursor.execute("CREATE USER reader IDENTIFIED BY 'reading'")

        def reader(rights: str) -> None:
            cursor.execute(f"GRANT {rights} TO reader")
            connect(login="reader", password="reading")

        yield reader
        cursor.execute("DROP USER reader")


def test_read_permission_is_enough(rich: Milvus1xDirectory, reader: Callable[[str], None]) -> None:
    reader("SELECT ON milvus.*")
    assert inspect(rich.path, mysql_conn_id="catalog") == inspect(rich.path)


@pytest.mark.parametrize("rights", ["SELECT ON milvus.Tables", "SELECT (id) ON milvus.Tables", "INSERT ON milvus.*"])
def test_a_user_without_permission_to_read_all_is_refused(
    rich: Milvus1xDirectory, reader: Callable[[str], None], rights: str
) -> None:
    reader(rights)
    with pytest.raises(ConfigurationError) as error:
        inspect(rich.path, mysql_conn_id="catalog")
    assert_in_order(str(error.value), ["MySQL refuses connection catalog", "SELECT command denied", "right SELECT"])


def test_a_connection_lost_midway_is_left_to_a_retry(
    mariadb_server: MySqlAddress, rich: Milvus1xDirectory, connect: Connect
) -> None:
    """Wherever it is lost, no missing row is taken for a complete result."""
    address = f"http://{mariadb_server.host}:{mariadb_server.port}"
    lost = 0
    for cut in range(100, 2000, 100):
        with cutting_proxy(address, [cut]) as proxy:
            connect(port=urlsplit(proxy.uri).port)
            try:
                found = inspect(rich.path, mysql_conn_id="catalog")
            except MySQLdb.OperationalError:
                lost += 1
                assert inspect(rich.path, mysql_conn_id="catalog") == inspect(rich.path)
            else:
                assert found == inspect(rich.path)
    assert lost > 5


@pytest.mark.parametrize("says", ["nothing", "something too late"])
def test_a_server_that_does_not_answer_times_out(
    mariadb_server: MySqlAddress, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    limits = {"connect_timeout": 2, "read_timeout": 1}
    monkeypatch.setattr("airflow_provider_milvusdm.hooks.mysql_catalog.MYSQL_TIMEOUTS", limits)
    with ExitStack() as stack:
        if says == "something too late":
            address = f"http://{mariadb_server.host}:{mariadb_server.port}"
            connect(port=urlsplit(stack.enter_context(cutting_proxy(address, delay=1.5)).uri).port)
        else:
            connect(port=stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
        with pytest.raises(MySQLdb.OperationalError, match=r"Lost connection|timeout|timed out"):
            inspect(tmp_path, mysql_conn_id="catalog")


@pytest.mark.parametrize(
    "settings",
    [
        {"sql_select_limit": 5},
        {"sql_mode": "'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"},
        {"character_set_server": "latin1", "tx_isolation": "'READ-UNCOMMITTED'"},
    ],
)
def test_odd_settings_of_the_server_change_nothing(
    mariadb_server: MySqlAddress, rich: Milvus1xDirectory, connect: Connect, settings: dict[str, Any]
) -> None:
    with closing(MySQLdb.connect(**asdict(replace(mariadb_server, user=ADMIN)))) as admin:
        cursor = admin.cursor()
        for name, value in settings.items():
            cursor.execute(f"SET GLOBAL {name} = {value}")
        try:
            found = inspect(rich.path, mysql_conn_id="catalog")
        finally:
            for name in settings:
                cursor.execute(f"SET GLOBAL {name} = DEFAULT")
    assert found == inspect(rich.path)


@pytest.mark.parametrize("extra", [{"cursor": "dictcursor"}, {"cursor": "sscursor"}, {"charset": "gbk"}])
def test_odd_settings_of_the_connection_change_nothing(
    rich: Milvus1xDirectory, connect: Connect, extra: dict[str, Any]
) -> None:
    connect(extra=extra)
    assert inspect(rich.path, mysql_conn_id="catalog") == inspect(rich.path)


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
    with pytest.raises(UnsupportedSourceError, match="able Tables does not belong to"):
        inspect(tmp_path, mysql_conn_id="catalog")


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_that_can_not_prove_who_it_is_is_refused(
    tmp_path: Path, dial: Callable[[str], None], wrong: str
) -> None:
    dial(wrong)
    with pytest.raises(MySQLdb.OperationalError, match="TLS/SSL error"):
        inspect(tmp_path, mysql_conn_id="catalog")
