"""Milvus Lite files reached through Airflow's hook, by one process at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from airflow_provider_milvusdm.exceptions import ConfigurationError, StalledError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from tests.support.processes import wait_until
from tests.support.targets import milvus_client

HOLD = """
import sys
from tests.support.targets import milvus_client
with milvus_client(sys.argv[1]) as client:
    client.create_collection("of_the_other", dimension=4)
    print("open", flush=True)
    sys.stdin.readline()
    client.create_collection("its_last", dimension=4)
"""
"""Opens a file until it's told a line."""


def collections(hook: MilvusHook) -> list[str]:
    with hook.client() as client:
        return sorted(client.list_collections())


@pytest.mark.parametrize("by", ["uri", "connection"])
def test_a_file_is_made_and_opened_again(milvus_lite_uri: str, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    connection = {"conn_type": "milvus", "login": "root", "extra": {"uri": milvus_lite_uri, "token": "of a server"}}
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps(connection))
    hook = MilvusHook(uri=milvus_lite_uri) if by == "uri" else MilvusHook("target")
    with hook.client() as client:
        client.create_collection("news", dimension=4)
    assert collections(hook) == ["news"]
    assert hook.test_connection()[1].startswith("Milvus milvus_lite-3.")


def test_plan_only_makes_no_file(tmp_path: Path, milvus_lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hook = MilvusHook(uri=milvus_lite_uri)
    with hook.client(plan_only=True) as client:
        assert client.list_collections() == []
        assert not Path(milvus_lite_uri).exists()
    assert hook.test_connection()[0]
    assert list(tmp_path.iterdir()) == []


def test_plan_only_finds_what_a_file_holds(milvus_lite_uri: str) -> None:
    hook = MilvusHook(uri=milvus_lite_uri)
    with hook.client() as client:
        client.create_collection("news", dimension=4)
    with hook.client(plan_only=True) as client:
        assert client.list_collections() == ["news"]


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert collections(MilvusHook(uri="lite.db")) == []
    with milvus_client(str(tmp_path / "lite.db")) as client:
        assert client.list_collections() == []


def test_a_file_is_free_for_others_after_the_block(milvus_lite_uri: str) -> None:
    with pytest.raises(KeyError), MilvusHook(uri=milvus_lite_uri).client():
        raise KeyError
    other = subprocess.run(
        [sys.executable, "-c", HOLD, milvus_lite_uri], input="\n", text=True, capture_output=True, check=False
    )
    assert (other.returncode, other.stdout) == (0, "open\n"), other.stderr


def test_a_second_process_waits_for_the_file_and_then_finds_what_the_first_wrote(
    milvus_lite_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, "-c", HOLD, milvus_lite_uri]
    found: list[list[str]] = []
    waiting = threading.Thread(target=lambda: found.append(collections(MilvusHook(uri=milvus_lite_uri))))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "open\n"
        waiting.start()
        wait_until(lambda: "another process holds the lock" in caplog.text, 20, lambda: caplog.text)
        assert not found
        other.communicate("\n", timeout=20)
    waiting.join(20)
    assert found == [["its_last", "of_the_other"]]
    assert caplog.text.count("Failed to start") == 1, "Milvus Lite's complaint is not repeated while it waits"


def test_the_test_button_does_not_wait_for_a_file_that_a_load_has_open(milvus_lite_uri: str) -> None:
    command = [sys.executable, "-c", HOLD, milvus_lite_uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "open\n"
        answer = MilvusHook(uri=milvus_lite_uri).test_connection()
        assert other.poll() is None
        other.communicate("\n", timeout=20)
    assert answer == (True, f"Milvus Lite file {milvus_lite_uri}, which another process has open")


@pytest.mark.parametrize("plan_only", [False, True])
@pytest.mark.parametrize("place", ["lite", "lite.sqlite", "no/folder/lite.db", "old.db", "data"])
def test_an_invalid_path_for_milvus_lite_is_an_error(tmp_path: Path, place: str, plan_only: bool) -> None:
    (tmp_path / "old.db").write_bytes(b"SQLite format 3\0")
    (tmp_path / "data").mkdir()
    before = sorted(tmp_path.rglob("*"))
    hook = MilvusHook(uri=str(tmp_path / place))
    with pytest.raises(ConfigurationError) as error, hook.client(plan_only=plan_only):
        pass
    assert f"ot a path for Milvus Lite 3.2 or later: {tmp_path / place}." in str(error.value)
    assert "xpected a name that ends in .db, in a folder that exists" in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_any_other_error_of_a_file_is_raised_at_once(tmp_path: Path) -> None:
    (tmp_path / "lite.db").mkdir()
    (tmp_path / "lite.db" / "collections").write_bytes(b"")
    with pytest.raises(FileExistsError, match="collections"):
        collections(MilvusHook(uri=str(tmp_path / "lite.db")))


def test_waiting_for_a_file_that_stays_open_ends(milvus_lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_milvusdm.hooks.milvus.LITE_WAIT_SECONDS", 1)
    command = [sys.executable, "-c", HOLD, milvus_lite_uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StalledError, match=r"lite\.db could not be opened for 1 s.*A retry"):
            collections(MilvusHook(uri=milvus_lite_uri))
        other.communicate("\n", timeout=20)
