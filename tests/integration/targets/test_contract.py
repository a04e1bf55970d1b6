"""What every target guarantees, wherever it stores the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.report import FAILED, VERIFIED
from tests.support.directories import random_vectors, write_directory
from tests.support.killed import KilledError
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING
from tests.support.target_kinds import Hdf5Target, MilvusTarget, Run, Target, kill_before_batch
from tests.support.targets import milvus_client

PARTITIONS: Mapping[str, Any] = {"_default": range(-5, 6), "a": range(6)}
"""Some ids are in both: rows of two partitions are never one row."""
BATCH_ROWS = 3
BATCHES = 6
"""Of all partitions together."""
IDS = (-(2**63), 2**63 - 2, 2**53 + 1, -1, 0, 1)
"""The lowest and the highest that are accepted among them: a Milvus 2.x server never returns 2^63 - 1."""
FLOATS = np.array([-0.0, 0.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38, 0.1], np.float32)
"""Negative zero, the smallest and the largest denormal, the largest numbers, and one that is not exact."""


@pytest.fixture(params=["server", "lite", "hdf5"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """Each kind of target in turn, empty."""
    if request.param == "hdf5":
        yield Hdf5Target(tmp_path / "hdf5")
        return
    fixtures = {"lite": "milvus_lite_uri", "server": "empty_milvus_server_uri"}
    with milvus_client(request.getfixturevalue(fixtures[request.param])) as client:
        yield MilvusTarget(client, has_binary_vectors=request.param == "server")


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": PARTITIONS})


@pytest.fixture
def expected(directory: Milvus1xDirectory) -> dict[str, dict[int, bytes]]:
    return {partition: directory.live("news", partition) for partition in PARTITIONS}


def migrate(target: Target, path: Path) -> Any:
    """The report of a whole run about ``news``."""
    run = target.start(path)
    run.load()
    return run.verify()["news"]


def test_floats_arrive_bit_for_bit_under_any_id(target: Target, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8)
    vectors = np.stack([np.roll(FLOATS, shift) for shift in range(len(IDS))])
    directory.segment(news, IDS, vectors, deleted=[5])
    report = migrate(target, directory.write())
    assert (report.status, report.faults) == (VERIFIED, ())
    assert target.rows("news") == {"_default": directory.live("news")}


def test_binary_vectors_arrive_bit_for_bit_or_are_refused(target: Target, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=64, metric=HAMMING)
    vectors = np.random.default_rng(4).integers(0, 256, (100, 8), np.uint8)
    vectors[::9] = 0
    directory.segment(news, range(-50, 50), vectors, deleted=[0])
    before = target.contents()
    report = migrate(target, directory.write())
    if target.has_binary_vectors:
        assert (report.status, report.faults) == (VERIFIED, ())
        assert target.rows("news") == {"_default": directory.live("news")}
    else:
        assert report.status == FAILED
        assert target.contents() == before


def test_rows_are_counted_by_partition(target: Target, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8)
    directory.segment(news, range(11), random_vectors(11, 1), deleted=[0, 7])
    directory.segment(directory.partition(news, "a"), range(5), random_vectors(5, 2))
    directory.partition(news, "empty")
    report = migrate(target, directory.write())
    counts = {part.partition: (part.live, part.deleted, part.loaded, part.counted) for part in report.partitions}
    assert counts == {"_default": (9, 2, 9, 9), "a": (5, 0, 5, 5), "empty": (0, 0, 0, 0)}


def load_until_killed(target: Target, run: Run, batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        target.set_batch_rows(patch, BATCH_ROWS)
        kill_before_batch(target, patch, batch)
        with pytest.raises(KilledError):
            run.load()


@pytest.mark.parametrize("batch", [0, BATCHES // 2, BATCHES - 1])
def test_a_half_loaded_collection_is_not_taken_for_finished(
    target: Target, directory: Milvus1xDirectory, batch: int
) -> None:
    run = target.start(directory.path)
    load_until_killed(target, run, batch)
    assert not target.is_finished("news", list(PARTITIONS))
    assert run.verify()["news"].status == FAILED
    assert not target.is_finished("news", list(PARTITIONS))
    run.load()
    assert run.verify()["news"].status == VERIFIED
    assert target.is_finished("news", list(PARTITIONS))


def test_a_retry_is_exact_wherever_the_load_was_killed(
    target: Target, directory: Milvus1xDirectory, expected: dict[str, dict[int, bytes]]
) -> None:
    run = target.start(directory.path)
    for batch in range(BATCHES - 1):  # the last retry may skip the first partition, and so meets fewer batches
        load_until_killed(target, run, batch)
    run.load()
    report = run.verify()["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert target.rows("news") == expected


@pytest.mark.parametrize("batch", [0, BATCHES // 2, BATCHES - 1])
def test_a_new_run_after_a_killed_one_is_exact(
    target: Target, directory: Milvus1xDirectory, expected: dict[str, dict[int, bytes]], batch: int
) -> None:
    load_until_killed(target, target.start(directory.path), batch)
    report = migrate(target, directory.path)
    assert (report.status, report.faults) == (VERIFIED, ())
    assert target.rows("news") == expected


def test_a_second_run_changes_nothing(
    target: Target, directory: Milvus1xDirectory, expected: dict[str, dict[int, bytes]]
) -> None:
    assert [migrate(target, directory.path).status for _ in range(2)] == [VERIFIED] * 2
    assert target.rows("news") == expected


def test_a_source_that_is_refused_leaves_the_target_as_it_was(target: Target, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1, 2, 2], "a": [1]}})
    before = target.contents()
    assert migrate(target, directory.path).status == FAILED
    assert target.contents() == before


def test_what_is_in_the_way_stays_as_it_was(target: Target, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": PARTITIONS}, dimension=16)
    target.obstruct("news")
    before = target.contents()
    report = migrate(target, directory.path)
    assert report.status == FAILED
    assert report.faults
    assert target.contents() == before
