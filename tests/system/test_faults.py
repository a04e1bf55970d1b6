"""What goes wrong ends with a clear message: the other collections go on, the run fails, the target is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.airflow_home import DagsTest, dags_test
from tests.support.airflow_runs import read_xcom
from tests.support.collections_2x import stored
from tests.support.dag_templates import QUICK, write_dag
from tests.support.directories import random_vectors, write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.processes import free_ports
from tests.support.targets import milvus_client
from tests.support.terminal import Terminal
from tests.support.tree_checksum import tree_checksum


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    """Collections `news` (two partitions), `damaged` (its vectors are cut short), `faces`, and `empty`."""
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8)
    directory.segment(news, range(100), random_vectors(100, seed=1), deleted=[3, 1])
    directory.segment(directory.partition(news, "2021-03 news"), range(100, 150), random_vectors(50, seed=2))
    damaged = directory.segment(directory.collection("damaged", dimension=8), range(20), random_vectors(20, seed=3))
    directory.segment(directory.collection("faces", dimension=8), range(30), random_vectors(30, seed=4))
    directory.collection("empty", dimension=8)
    directory.write()
    damaged.rv.write_bytes(damaged.rv.read_bytes()[:-4])
    return directory


ASKED = {"news": None, "damaged": None, "nowhere": None, "faces": None}


def test_a_damaged_and_an_unknown_collection_leave_the_others_alone(
    directory: Milvus1xDirectory, milvus_lite_uri: str, templates_env: dict[str, str]
) -> None:
    before = tree_checksum(directory.path)
    conf = {"source_milvus_path": str(directory.path), "source_collection": ASKED, "dest_uri": milvus_lite_uri}
    ended = dags_test(templates_env, "milvusdm_m2m", conf)

    assert ended.run is not None, ended.output
    assert (ended.returncode, ended.state) == (1, "failed"), ended.output
    states = {(task.task_id, task.rendered_map_index): task.state for task in ended.run.tasks}
    good, bad = "faces … news (2 collections)", "damaged … nowhere (2 collections)"
    assert (states["create_collection", bad], states["verify_counts", bad]) == ("skipped", "failed")
    assert (states["create_collection", good], states["verify_counts", good]) == ("success", "success")
    assert states["report", None] == "failed"
    assert {task.try_number for task in ended.run.tasks} == {1}

    assert tree_checksum(directory.path) == before
    with milvus_client(milvus_lite_uri) as client:
        assert sorted(client.list_collections()) == ["faces", "news"]
        client.load_collection("news")
        assert stored(client, "news") == {
            "_default": directory.live("news"),
            "_2021_03_news": directory.live("news", "2021-03 news"),
        }
    assert "2 of 4 collections failed:\n- damaged: " in ended.output
    assert "\n- nowhere: No collection 'nowhere' in the catalog" in ended.output
    report = read_xcom(templates_env, ended.run, "report", key="report")
    faults = {report["collection"]: " ".join(report["faults"]) for report in report["collections"]}
    assert faults.keys() == ASKED.keys()
    assert faults["news"] == faults["faces"] == ""
    assert "damaged" in faults["damaged"]
    assert ".rv" in faults["damaged"]
    assert "no collection 'nowhere'" in faults["nowhere"].lower()


def test_the_command_line_names_the_failed_ones_and_exits_with_1(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    ended = terminal.migrate(source_milvus_path=str(directory.path), source_collection=ASKED, dest_uri=milvus_lite_uri)

    assert ended.returncode == 1
    assert ended.statuses == {"news": "verified", "damaged": "failed", "nowhere": "failed", "faces": "verified"}
    assert "damaged FAILED: " in ended.stdout
    assert "nowhere FAILED: No collection 'nowhere' in the catalog" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_run_of_empty_collections_alone_succeeds(
    directory: Milvus1xDirectory, milvus_lite_uri: str, templates_env: dict[str, str]
) -> None:
    conf = {
        "source_milvus_path": str(directory.path),
        "source_collection": {"empty": None},
        "dest_uri": milvus_lite_uri,
    }
    ended = dags_test(templates_env, "milvusdm_m2m", conf)

    assert (ended.returncode, ended.state) == (0, "success"), ended.output
    with milvus_client(milvus_lite_uri) as client:
        assert client.list_collections() == ["empty"]


def no_directory(path: Path) -> None:
    """Nothing at all."""


def garbage_catalog(path: Path) -> None:
    write_directory(path, {"news": {"_default": range(3)}}).catalog_path.write_bytes(b"not a database" * 1000)


@pytest.mark.parametrize(
    ("make", "message"), [(no_directory, "no Milvus 1.x catalog"), (garbage_catalog, "the catalog can't be read")]
)
def test_a_source_that_cannot_be_read_at_all_leaves_the_target_untouched(
    make: Callable[[Path], None], message: str, tmp_path: Path, milvus_lite_uri: str, terminal: Terminal
) -> None:
    make(tmp_path / "milvus")
    ended = terminal.migrate(source_milvus_path=str(tmp_path / "milvus"), dest_uri=milvus_lite_uri)

    assert ended.returncode == 1
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("FAILED  inspect_source")]
    assert message.lower() in line.lower()
    assert str(tmp_path / "milvus" / "db" / "meta.sqlite") in line
    assert not Path(milvus_lite_uri).exists()
    assert "Traceback" not in ended.stdout + ended.stderr


def refused(env: dict[str, str], **conf: object) -> DagsTest:
    """A run that its first step ended, without a retry."""
    ended = dags_test(env, "milvusdm_m2m", conf)
    assert ended.run is not None, ended.output
    assert ended.state == "failed"
    [inspect] = [task for task in ended.run.tasks if task.task_id == "inspect_source"]
    assert (inspect.state, inspect.try_number) == ("failed", 1)
    return ended


def test_airflow_is_told_all_bad_params_at_once(templates_env: dict[str, str]) -> None:
    bad = {"dest_uri": "a.db", "dest_host": "b", "source_colection": {"news": None}, "source_collection": {"news": []}}
    ended = refused(templates_env, source_milvus_path="/data/milvus", **bad)

    assert "source_colection: there is no such param; did you mean source_collection?" in ended.output
    assert "dest_uri and dest_host or dest_port are both set" in ended.output
    assert "source_collection: The list of partitions of collection 'news' is empty" in ended.output


def test_the_command_line_is_told_all_bad_params_at_once_before_airflow_starts(terminal: Terminal) -> None:
    ended = terminal.migrate(
        source_milvus_path="/data/milvus",
        source_colection="news",
        mode="replace",
        dest_uri="a.db",
        dest_host="b",
    )

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "did you mean source_collection?" in ended.stderr
    assert "mode: " in ended.stderr
    assert "dest_uri and dest_host or dest_port are both set" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(terminal.temporary.iterdir()) == []


def test_a_target_that_is_away_is_tried_again_before_the_source_is_read_and_then_named_by_the_report(
    directory: Milvus1xDirectory, tmp_path: Path, airflow_home: Callable[[Path], dict[str, str]]
) -> None:
    env = airflow_home(write_dag(tmp_path / "dags", "quick", QUICK))
    [port] = free_ports(1)
    conf = {"source_milvus_path": str(directory.path), "dest_host": "127.0.0.1", "dest_port": port}
    ended = dags_test(env, "quick", conf)

    assert ended.run is not None, ended.output
    tasks = {task.task_id: task for task in ended.run.tasks}
    assert (ended.state, tasks["inspect_source"].state, tasks["inspect_source"].try_number) == ("failed", "failed", 2)
    assert tasks["resolve_ids"].state == "upstream_failed"
    assert f"Nothing was migrated: inspect_source failed. {no_server(port)}" in ended.output


def no_server(port: int) -> str:
    return f"No server listens on port {port} of host '127.0.0.1'"


def test_a_target_that_refuses_the_run_fails_it_at_once(
    directory: Milvus1xDirectory, templates_env: dict[str, str], milvus_server_uri: str
) -> None:
    ended = refused(
        templates_env, source_milvus_path=str(directory.path), dest_uri=f"{milvus_server_uri}/nowhere", mode="sync"
    )
    assert "There is no database 'nowhere'" in ended.output
    assert "Nothing was migrated: inspect_source failed. There is no database 'nowhere'" in ended.output


def test_a_collection_that_the_plan_refuses_is_red_in_its_own_task(
    directory: Milvus1xDirectory, milvus_lite_uri: str, templates_env: dict[str, str]
) -> None:
    conf = {
        "source_milvus_path": str(directory.path),
        "source_collection": "news\nfaces",
        "dest_uri": milvus_lite_uri,
        "rename": {"news/2021-03 news": "_default"},
    }
    ended = dags_test(templates_env, "milvusdm_m2m", conf)

    assert ended.run is not None, ended.output
    states = {(task.task_id, task.rendered_map_index): task.state for task in ended.run.tasks}
    assert states["create_collection", "news"] == "failed"
    assert states["create_collection", "faces"] == "success"
    assert "1 of 2 collections failed:\n- news: " in ended.output


def test_a_source_that_changes_under_the_run_fails_it(
    directory: Milvus1xDirectory, tmp_path: Path, milvus_lite_uri: str, airflow_home: Callable[[Path], dict[str, str]]
) -> None:
    now = directory.catalog_path.read_bytes()
    directory.segment(directory.collection("later", dimension=8), range(5), random_vectors(5, seed=5))
    directory.write()
    (tmp_path / "now.sqlite").write_bytes(now)
    env = airflow_home(write_dag(tmp_path / "dags", "live", LIVE.format(catalog=tmp_path / "now.sqlite")))
    conf = {
        "source_milvus_path": str(directory.path),
        "source_collection": {"faces": None, "later": None},
        "dest_uri": milvus_lite_uri,
    }
    ended = dags_test(env, "live", conf)

    assert ended.run is not None, ended.output
    assert ended.state == "failed"
    reports = {
        report["collection"]: report for report in read_xcom(env, ended.run, "report", key="report")["collections"]
    }
    assert {name: report["status"] for name, report in reports.items()} == {"faces": "verified", "later": "failed"}
    [fault] = reports["later"]["faults"]
    assert "Collection 'later' of the source changed since it was inspected" in fault


LIVE = """
import shutil

from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag("live")
dag.get_task("check_source").pre_execute = lambda context: shutil.copyfile(
    "{catalog}", context["params"]["source_milvus_path"] + "/db/meta.sqlite"
)
"""
