"""Garbage collection around the start of Airflow."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from airflow_provider_milvusdm.cli.garbage import StartEnd, no_collection_during_start


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_collections_begin_with_the_first_task() -> None:
    with no_collection_during_start():
        assert not gc.isenabled()
        StartEnd().on_task_instance_running(None, None)
        assert gc.isenabled()
        assert gc.get_freeze_count()


def test_collections_begin_where_no_task_ran() -> None:
    with pytest.raises(KeyboardInterrupt), no_collection_during_start():
        raise KeyboardInterrupt
    assert gc.isenabled()
    assert not gc.get_freeze_count()
