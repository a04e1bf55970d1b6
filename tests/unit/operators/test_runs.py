"""Whether the process of a run is gone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

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
    noted = runs._described(found)
    assert runs._process_is_gone(noted) is False
    process.kill()
    wait_until(lambda: found.status() == psutil.STATUS_ZOMBIE, 10, lambda: "it lives")
    assert runs._process_is_gone(noted) is True
    process.wait()
    assert runs._process_is_gone(noted) is True


def test_a_clock_that_is_set_makes_no_other_process_of_it(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a process was started is known in seconds since the machine was, and told by the clock of now."""
    noted, booted = runs._described(psutil.Process(process.pid)), psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted + 3600)
    assert runs._process_is_gone(noted) is False


def test_of_another_host_nobody_can_tell() -> None:
    assert runs._process_is_gone("elsewhere/1/2.00") is None
