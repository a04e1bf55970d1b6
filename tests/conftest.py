"""Fixtures over the real parts that the tests run against, and an Airflow home that is nobody's."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.support.airflow_home import airflow_env, migrate_database
from tests.support.mariadb_server import MySqlAddress, mariadb
from tests.support.milvus_servers import MilvusOnS3, milvus_server, milvus_server_on_s3
from tests.support.seaweedfs import S3Address, running_seaweedfs
from tests.support.targets import drop_all_collections

_home = tempfile.TemporaryDirectory(prefix="milvusdm-tests-")
os.environ["AIRFLOW_HOME"] = _home.name  # before anything imports Airflow, which writes its settings there
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # they spin while they wait for one another, and each core has a worker

_COSTLY = {
    "seaweedfs": ["milvus_on_s3"],
    "mariadb_server": ["mariadb_server"],
    "airflow": ["airflow 1", "airflow 2"],
    "airflow_home": ["commands 1", "commands 2"],
    "terminal": ["commands 1", "commands 2"],
}
"""What is shared by tests of a few workers, and the names of their groups.

Commands (`milvusdm`, `airflow`) compute all the time, and a worker that runs them has a process that imported Airflow
for them (`warm_python`). If all workers ran them at the same time, each of them and each server would be slow.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share something costly run on the same worker, and first; the others wherever there is room.

    Unit tests come last, the slow ones first, because they are short: no worker has a long test when the others have
    nothing left to do.
    Of the others, those that compute (whole runs) and those that wait (for a server) are mixed.
    """
    for item in items:
        if group := _shared(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_order)


def _order(item: pytest.Item) -> tuple[int, str, int]:
    """The order is the same each time, and that of the files within a group and of unit tests."""
    if item.path.is_relative_to(Path(__file__).parent / "unit"):
        return 2, "", 0 if item.get_closest_marker("slow") else 1
    group = item.get_closest_marker("xdist_group")
    if group is None:
        return 1, "", crc32(item.nodeid.encode())
    name = str(group.args[0])
    return 0, "" if any(name in names for names in _COSTLY.values()) else name, 0


def _shared(item: pytest.Item) -> str | None:
    """The group of the costly fixture that a test needs, or its file, where that has fixtures for all its tests.

    None where the file names a group itself, since a test with two groups is in neither.
    """
    if item.get_closest_marker("xdist_group"):
        return None
    definitions, file = item._fixtureinfo.name2fixturedefs, item.location[0]
    of_file = any(fixtures[-1].scope == "module" for fixtures in definitions.values())
    for name, groups in _COSTLY.items():
        if name in definitions:
            return groups[crc32((file if of_file else item.nodeid).encode()) % len(groups)]
    return file if of_file else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory a real Milvus 0.9.1 server left, with `expected.json`; read-only."""
    folder = os.environ.get("MILVUSDM_REAL_DATA")
    if not folder:
        pytest.skip("MILVUSDM_REAL_DATA is not set: it names the folder that holds milvus-0.9.1")
    path = Path(folder) / "milvus-0.9.1"
    if not path.is_dir():
        pytest.skip(f"{path} does not exist: MILVUSDM_REAL_DATA names the folder that holds milvus-0.9.1")
    return path


@pytest.fixture(scope="session")
def milvus_server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Milvus 2.3.5, one for the whole session."""
    with milvus_server(tmp_path_factory.mktemp("milvus-server")) as address:
        yield address.uri


@pytest.fixture
def empty_milvus_server_uri(milvus_server_uri: str) -> str:
    """The same, without the collections of earlier tests."""
    drop_all_collections(milvus_server_uri)
    return milvus_server_uri


@pytest.fixture(scope="session")
def milvus_on_s3(tmp_path_factory: pytest.TempPathFactory, seaweedfs: S3Address) -> Iterator[MilvusOnS3]:
    """Another, whose data are in a real S3."""
    with milvus_server_on_s3(tmp_path_factory.mktemp("milvus-on-s3"), seaweedfs) as server:
        yield server


@pytest.fixture
def milvus_lite_uri(tmp_path: Path) -> str:
    """A Milvus Lite file that isn't there yet."""
    return str(tmp_path / "lite.db")


@pytest.fixture(params=["lite", "server"])
def target_uri(request: pytest.FixtureRequest) -> str:
    """Each kind of target in turn, empty."""
    fixtures = {"lite": "milvus_lite_uri", "server": "empty_milvus_server_uri"}
    uri: str = request.getfixturevalue(fixtures[request.param])
    return uri


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MySqlAddress]:
    """A real MariaDB, one for the whole session."""
    with mariadb() as address:
        yield address


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Address]:
    """A real S3, one for the whole session."""
    with running_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as address:
        yield address


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated Airflow database for each test to copy, made by the first worker that needs it."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    database = shared / "airflow.db"
    with (shared / "airflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            migrate_database(tmp_path_factory.mktemp("airflow-database")).rename(database)
    return database


@pytest.fixture
def airflow_home(tmp_path: Path, airflow_database: Path) -> Callable[[Path], dict[str, str]]:
    """Makes the environment of a new Airflow home with the DAGs of a folder: `airflow_home(dags_folder)`."""
    return lambda dags_folder: airflow_env(tmp_path / "airflow", dags_folder, airflow_database)
