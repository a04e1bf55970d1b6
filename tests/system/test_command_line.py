"""The command `milvusdm`: MilvusDM's own files, what stands on the terminal, Ctrl-C, exit codes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from airflow_provider_milvusdm import __version__
from tests.support.collections_2x import called, stored
from tests.support.dag_templates import TEMPLATES
from tests.support.directories import write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.targets import milvus_client
from tests.support.terminal import Terminal

PUBLISHED_M2M = """\
M2M:
  milvus_version: 0.10.5
  source_milvus_path: '/Users/chenshiyu/workspace/milvus1'
  mysql_parameter:
  source_collection: # specify the 'partition_1' and 'partition_2' partitions of the 'test' collection
    test:
  dest_host: '127.0.0.1'
  dest_port: 19520
  mode: 'append' # 'skip/append/overwrite'
"""
"""yamls/M2M.yaml of MilvusDM, unchanged."""

ODD_TAG = "{{ 7 * 7 }} [red]"
"""Neither a template nor markup."""


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(
        tmp_path / "milvus",
        {
            "test": {"_default": range(300), "partition_1": range(300, 400), "partition_2": range(400, 600)},
            "other": {"_default": range(40), "2021-03 news": range(40, 100), ODD_TAG: range(100, 120)},
            "not asked for": {"_default": range(10)},
        },
    )


def test_milvusdms_own_file_runs_with_only_its_path_and_port_changed(
    directory: Milvus1xDirectory, empty_milvus_server_uri: str, terminal: Terminal
) -> None:
    published = PUBLISHED_M2M.replace("/Users/chenshiyu/workspace/milvus1", str(directory.path))
    (terminal.folder / "M2M.yaml").write_text(published.replace("19520", str(urlsplit(empty_milvus_server_uri).port)))
    ended = terminal.milvusdm_in_new_interpreter("--yaml", "M2M.yaml")

    assert ended.returncode == 0, ended
    with milvus_client(empty_milvus_server_uri) as client:
        assert client.list_collections() == ["test"]
        assert stored(client, "test") == {tag: directory.live("test", tag) for tag in client.list_partitions("test")}
        assert sorted(client.list_partitions("test")) == ["_default", "partition_1", "partition_2"]


def test_the_terminal_shows_progress_and_report_and_the_log_has_the_rest(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    several = {"test": ["partition_1", "partition_2"], "other": None}
    path = terminal.write_yaml(
        source_milvus_path=str(directory.path), source_collection=several, dest_uri=milvus_lite_uri
    )
    ended = terminal.milvusdm("--yaml", path, "--log", "airflow.log")

    assert ended.returncode == 0, ended
    assert ended.stderr == ""
    first, *lines = ended.stdout.splitlines()
    assert first == "Airflow's log: airflow.log"
    progress, remarks = ended.stdout[: ended.stdout.index("Milvus migration")], lines[-3:]
    assert [line for line in progress.splitlines()[1:-1] if not line.startswith("done    ")] == []
    assert "done    resolve_ids other … test (2 collections)\n" in progress
    assert "done    load_partitions other … test (2 collections)\n" in progress
    assert [row[1:3] for row in ended.rows] == [
        ["_default", "other/_default"],
        ["2021-03 news", "other/_2021_03_news"],
        [ODD_TAG, "other/___7___7_____red_"],
        ["partition_1", "test/partition_1"],
        ["partition_2", "test/partition_2"],
    ]
    assert remarks[0].startswith("other -> other: created; metric L2 -> L2; index FLAT -> FLAT;")
    assert "DagRun Finished" in (terminal.folder / "airflow.log").read_text()
    assert terminal.private_homes == []
    assert not terminal.own_airflow.exists()
    with milvus_client(milvus_lite_uri) as client:
        client.load_collection("test")
        assert stored(client, "test") == {
            "_default": {},
            **{tag: directory.live("test", tag) for tag in ("partition_1", "partition_2")},
        }


def test_a_screen_shows_the_task_at_work_and_none_of_airflows_log(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    path = terminal.write_yaml(
        source_milvus_path=str(directory.path), source_collection="other", dest_uri=milvus_lite_uri
    )
    screen = terminal.on_screen("--yaml", path)

    assert re.search("[\u2800-\u28ff] verify_counts other", screen)
    assert re.search("verify +other .*━.* 100 %", screen)
    assert "done    report" in screen
    assert "other -> other: created;" in screen
    assert not re.search(r"\[(info|warning|error) ", screen)


def test_the_plan_is_asked_about_before_the_target_changes(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    path = terminal.write_yaml(
        source_milvus_path=str(directory.path), source_collection="other", dest_uri=milvus_lite_uri, approval=True
    )
    nobody = terminal.milvusdm("--yaml", path)
    assert nobody.returncode == 2
    assert "there is no terminal to ask on" in nobody.stderr

    with terminal.on_own_screen("--yaml", path) as (process, screen):
        shown = ""
        while "yes or no" not in shown:
            shown += screen.read(4096).decode(errors="replace")
        os.write(screen.fileno(), b"no\n")
        with suppress(OSError):
            while part := screen.read(4096):
                shown += part.decode(errors="replace")
        assert process.wait(120) == 1
    assert "1 collection created: 120 rows to load" in shown
    assert "The plan was refused. Nothing in the target was changed." in shown
    assert not Path(milvus_lite_uri).exists()

    approved = terminal.milvusdm("--yaml", path, "--yes")
    assert approved.returncode == 0, approved
    assert "1 collection created: 120 rows to load" in approved.stdout


ROWS, DIMENSION = 300_000, 64


@pytest.fixture
def large_directory(tmp_path: Path) -> Milvus1xDirectory:
    """73 MiB of vectors in two segments."""
    directory = Milvus1xDirectory(tmp_path / "large")
    large = directory.collection("large", dimension=DIMENSION)
    vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSION), np.float32)
    for ids in np.split(np.arange(ROWS), 2):
        directory.segment(large, ids.tolist(), vectors[ids])
    directory.write()
    return directory


def test_ctrl_c_in_the_middle_of_a_load_ends_it_clean_and_the_next_run_goes_on(
    large_directory: Milvus1xDirectory, empty_milvus_server_uri: str, terminal: Terminal
) -> None:
    path = terminal.write_yaml(
        source_milvus_path=str(large_directory.path), dest_uri=empty_milvus_server_uri, unit_mib=16
    )
    with terminal.started("--yaml", path) as process:
        shown = list(_until(process.stdout, "done    load_partitions"))
        os.killpg(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=60)

    assert process.returncode == 130, (shown, rest, errors)
    assert rest.splitlines()[-1] == "Interrupted. Run the command again to continue."
    assert not re.search(r"Traceback|FAILED|retry", rest + errors)
    assert terminal.private_homes == []
    assert 0 < _count(empty_milvus_server_uri) < ROWS

    again = terminal.milvusdm("--yaml", path)
    assert again.returncode == 0, again
    assert "large -> large: resumed;" in again.stdout
    with milvus_client(empty_milvus_server_uri) as client:
        assert stored(client, "large") == {"_default": large_directory.live("large")}


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_runs_killed_in_the_middle_of_a_load_are_gone_on_with_by_the_next(
    tmp_path: Path, empty_milvus_server_uri: str, terminal: Terminal, kills: int
) -> None:
    directory = write_directory(tmp_path / "milvus", {"large": {"_default": range(30_000)}}, dimension=DIMENSION)
    path = terminal.write_yaml(
        source_milvus_path=str(directory.path), dest_uri=empty_milvus_server_uri, unit_mib=1, verify="full"
    )
    random = np.random.default_rng(kills)
    for units, seconds in zip(random.integers(0, 4, kills), random.uniform(0, 0.5, kills), strict=True):
        with terminal.started("--yaml", path) as process:
            list(_until(process.stdout, "done    units"))
            for _ in range(units):
                list(_until(process.stdout, "done    load_partitions"))
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    last = terminal.milvusdm("--yaml", path)
    assert last.returncode == 0, last
    assert "large -> large: resumed;" in last.stdout
    with milvus_client(empty_milvus_server_uri) as client:
        assert stored(client, "large") == {"_default": directory.live("large")}


WAITING = "waiting for Milvus Lite file {}: another process has it open"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_while_another_process_has_the_target_ends_it_as_clean(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal, number: signal.Signals
) -> None:
    path = terminal.write_yaml(source_milvus_path=str(directory.path), dest_uri=milvus_lite_uri)
    with milvus_client(milvus_lite_uri), terminal.started("--yaml", path) as process:
        list(_until(process.stdout, WAITING.format(milvus_lite_uri)))
        os.kill(process.pid, number)
        rest, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (130, "")
    assert rest.splitlines()[-1] == "Interrupted. Run the command again to continue."
    assert terminal.private_homes == []


def test_a_terminal_that_is_closed_ends_it_as_clean(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    path = terminal.write_yaml(source_milvus_path=str(directory.path), dest_uri=milvus_lite_uri)
    with milvus_client(milvus_lite_uri), terminal.on_own_screen("--yaml", path) as (process, screen):
        shown = ""
        while "another process has it open" not in shown:
            shown += screen.read(4096).decode(errors="replace")
        screen.close()
        assert process.wait(120) == 130
    assert terminal.private_homes == []


def test_under_nohup_it_goes_on_when_the_terminal_is_closed(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    path = terminal.write_yaml(
        source_milvus_path=str(directory.path), source_collection="other", dest_uri=milvus_lite_uri
    )
    target = ExitStack()
    target.enter_context(milvus_client(milvus_lite_uri))
    with target, terminal.started_in_new_interpreter("--yaml", path, before=["nohup"]) as process:
        assert process.stdout is not None
        list(_until(process.stdout, WAITING.format(milvus_lite_uri)))
        process.send_signal(signal.SIGHUP)
        target.close()
        rest, _ = process.communicate(timeout=300)
    assert process.returncode == 0, rest


def test_a_reader_that_goes_away_does_not_end_it(
    directory: Milvus1xDirectory, milvus_lite_uri: str, terminal: Terminal
) -> None:
    """As `milvusdm … | head -1`."""
    path = terminal.write_yaml(
        source_milvus_path=str(directory.path), source_collection="other", dest_uri=milvus_lite_uri
    )
    with terminal.started_in_new_interpreter("--yaml", path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(300) == 0
    with milvus_client(milvus_lite_uri) as client:
        client.load_collection("other")
        assert stored(client, "other")["_default"] == directory.live("other")


def _until(lines: Iterable[str], start: str) -> Iterator[str]:
    """The lines up to the first that starts so."""
    for line in lines:
        yield line
        if line.startswith(start):
            return


def _count(uri: str) -> int:
    """Rows of the collection, those counted that are on their way to its storage."""
    with milvus_client(uri) as client:
        name = called(client, "large")
        client.flush(name)
        return int(client.get_collection_stats(name)["row_count"])


def test_dags_copies_the_templates_and_keeps_a_changed_one(terminal: Terminal) -> None:
    templates = {path.name: path.read_text() for path in TEMPLATES.glob("*.py")}
    folder = terminal.folder / "new" / "dags"

    assert terminal.milvusdm("dags", folder).returncode == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == templates
    assert terminal.milvusdm("dags", folder).returncode == 0

    (folder / "milvusdm_m2m.py").write_text("# mine\n")
    ended = terminal.milvusdm("dags", folder)
    assert ended.returncode == 2
    assert re.search(r"A different DAG file of this name exists: .*milvusdm_m2m\.py", ended.stderr)
    assert (folder / "milvusdm_m2m.py").read_text() == "# mine\n"


def test_sample_writes_a_directory_once(terminal: Terminal) -> None:
    written = terminal.milvusdm("sample", "milvus")
    assert written.returncode == 0, written
    assert (terminal.folder / "milvus" / "db" / "meta.sqlite").is_file()

    again = terminal.milvusdm("sample", "milvus")
    assert again.returncode == 2
    assert "not empty" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--yaml FILE or a command is required"),
        (["--yaml", "missing.yaml"], "the YAML file can't be read"),
        (["--yaml", "job.yaml", "--log", "no/such/folder/log"], "the log can't be written"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_message(arguments: list[str], message: str, terminal: Terminal) -> None:
    (terminal.folder / "job.yaml").write_text("M2M:\n  source_milvus_path: /data/milvus\n  dest_uri: a.db\n")
    ended = terminal.milvusdm(*arguments)

    assert ended.returncode == 2
    assert message.lower() in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


def test_it_tells_its_version(terminal: Terminal) -> None:
    assert terminal.milvusdm_in_new_interpreter("--version").stdout.strip() == __version__
