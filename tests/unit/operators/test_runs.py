"""Whether the process of a run has ended."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from airflow_provider_milvusdm.operators import runs
from tests.support.processes import wait_until


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_killed_process_is_gone_whether_anybody_waited_for_it_or_not(process: subprocess.Popen[bytes]) -> None:
    found = psutil.Process(process.pid)
    noted = runs._describe(found)
    assert runs._has_process_ended(noted) is False
    process.kill()
    wait_until(lambda: found.status() == psutil.STATUS_ZOMBIE, 10, lambda: "it lives")
    assert runs._has_process_ended(noted) is True
    process.wait()
    assert runs._has_process_ended(noted) is True


def test_a_process_is_the_same_after_the_clock_was_set(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel stores the start of a process in seconds from the start of the machine."""
    noted, booted = runs._describe(psutil.Process(process.pid)), psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted + 3600)
    assert runs._has_process_ended(noted) is False


@pytest.mark.parametrize(("queued", "lines"), [(0, []), (1, ["1 run"]), (3, ["3 runs"])])
def test_a_run_that_retries_tells_what_waits_for_it(
    queued: int, lines: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runs.task_runner, "SUPERVISOR_COMMS", object(), raising=False)
    instance = SimpleNamespace(dag_id="move", get_dr_count=lambda _, states: queued if states == ["queued"] else 0)
    context: Any = {"ti": instance, "dag": SimpleNamespace(max_active_runs=1)}
    runs.tell_queue(context)
    told = [f"queued until this run has ended (max_active_runs: 1): {line} of this DAG" for line in lines]
    assert [record.getMessage() for record in caplog.records] == told


def test_it_is_unknown_on_another_host() -> None:
    assert runs._has_process_ended("elsewhere/1/2.00") is None
