"""The records of a 1.x server's log, and the policies `ignore` and `error` for rows that only it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_milvusdm.exceptions import DamagedSourceError
from airflow_provider_milvusdm.sources.milvus1x_log import LogRecord, read_log
from tests.milvus1x_directory import Milvus1xDirectory
from tests.milvus1x_log import DELETE, FLUSH, INSERT_BINARY, INSERT_FLOAT, Log
from tests.milvus1x_rows import DROPPED
from tests.tree_checksum import tree_checksum
from tests.unit.reading import assert_in_order, errors, inspect


@pytest.fixture
def log(directory: Milvus1xDirectory) -> Log:
    return Log(directory.path / "wal")


def test_records_are_read_in_order_through_all_files(log: Log) -> None:
    first = log.add(INSERT_FLOAT, "news", "新闻", (1, -2), bytes(32))
    second = log.add(FLUSH, "news")
    log.files |= {2: b"", 10: b""}
    third = log.add(DELETE, "news", ids=(5,))
    log.write()
    assert list(read_log(log.folder)) == [
        LogRecord(first, INSERT_FLOAT, "news", "新闻", 2, 32, 31),
        LogRecord(second, FLUSH, "news", "", 0, 0, 104),
        LogRecord(third, DELETE, "news", "", 1, 0, 25),
    ]
    assert third >> 32 == 10


def test_no_log_has_no_records(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "nowhere")) == []
    (tmp_path / "mxlog.meta").write_bytes(b"short")
    (tmp_path / "notes.wal").write_bytes(b"not the server's")
    assert list(read_log(tmp_path)) == []


@pytest.mark.parametrize("third_is_second", [True, False])
def test_what_was_written_after_the_last_acknowledged_record_is_left(log: Log, third_is_second: bool) -> None:
    last = log.add(INSERT_FLOAT, "news", ids=(1,), data=bytes(16))
    log.add(INSERT_FLOAT, "news", ids=(2,), data=bytes(16))
    log.write(meta=(0, last, last) if third_is_second else (last, 5, 6))
    assert [record.lsn for record in read_log(log.folder)] == [last]


@pytest.mark.parametrize("tail", [b"torn", bytes(64), b"\xff" * 64])
def test_a_torn_record_behind_the_last_is_left(log: Log, tail: bytes) -> None:
    last = log.add(INSERT_FLOAT, "news", ids=(1,), data=bytes(16))
    log.write()
    with (log.folder / "0.wal").open("ab") as file:
        file.write(tail)
    assert [record.lsn for record in read_log(log.folder)] == [last]


@pytest.mark.parametrize("size", [0, 20, 60, 115])
def test_a_log_without_its_last_record_is_refused(log: Log, size: int) -> None:
    for number in range(2):
        log.add(INSERT_FLOAT, "news", ids=(number,), data=bytes(16))
    log.write()
    path = log.folder / "0.wal"
    path.write_bytes(path.read_bytes()[: min(size, log.last_lsn - 1)])
    with pytest.raises(DamagedSourceError) as fault:
        list(read_log(log.folder))
    assert_in_order(
        str(fault.value), ["log is cut", "0.wal", f"Expected records up to lsn {log.last_lsn}", "found", "wal_path"]
    )


def test_rows_above_the_collections_flush_refuse_it_alone(directory: Milvus1xDirectory, log: Log) -> None:
    flushed = log.add(INSERT_FLOAT, "news", ids=(1, 2), data=bytes(32))
    log.add(INSERT_FLOAT, "news", ids=(3, 4), data=bytes(32))
    log.add(INSERT_BINARY, "news", ids=(5,), data=bytes(2))
    log.add(DELETE, "news", ids=(1,))
    log.add(INSERT_FLOAT, "unknown", ids=(9,), data=bytes(16))
    log.add(FLUSH, "other")
    log.write()
    directory.collection("news", dimension=4, flush_lsn=flushed)
    directory.collection("other", dimension=4)
    before = tree_checksum(directory.write())
    found = errors(inspect(directory.path, unflushed_log="error"))
    assert found["other"] == ""
    assert_in_order(
        found["news"],
        ["'news' are only in the 1.x server's log", str(log.folder), "found 3 inserted and 1 deleted", "unflushed_log"],
    )
    groups = {group.name: group for group in inspect(directory.path, unflushed_log="ignore")}
    assert [group.error for group in groups.values()] == ["", ""]
    assert ["3 inserted and 1 deleted" in note for note in groups["news"].notes] == [True]
    assert groups["other"].notes == ()
    assert tree_checksum(directory.path) == before


@pytest.mark.parametrize(
    ("collection_is_flushed", "partition_is_flushed", "tags", "refused"),
    [
        (False, False, None, True),
        (False, False, ["x"], True),
        (False, False, ["_default"], False),
        (True, False, None, True),
        (True, False, ["x"], True),
        (False, True, None, False),
        (False, True, ["x"], False),
    ],
)
def test_a_partition_is_flushed_as_far_as_its_own_row_says(
    directory: Milvus1xDirectory,
    log: Log,
    collection_is_flushed: bool,
    partition_is_flushed: bool,
    tags: list[str] | None,
    refused: bool,
) -> None:
    lsn = log.add(INSERT_FLOAT, "news", "x", (1,), bytes(16))
    log.add(INSERT_FLOAT, "news", "gone", (1,), bytes(16))
    log.write()
    news = directory.collection("news", dimension=4, flush_lsn=lsn * collection_is_flushed)
    directory.partition(news, "x", flush_lsn=lsn * partition_is_flushed)
    directory.partition(news, "gone", state=DROPPED)
    [found] = errors(inspect(directory.write(), {"news": tags}, unflushed_log="error")).values()
    assert bool(found) == refused


def test_a_deletion_without_a_tag_is_of_all_partitions(directory: Milvus1xDirectory, log: Log) -> None:
    directory.partition(directory.collection("news", dimension=4), "x")
    log.add(DELETE, "news", ids=(7, 8))
    log.write()
    [found] = errors(inspect(directory.write(), {"news": ["x"]}, unflushed_log="error")).values()
    assert "0 inserted and 2 deleted" in found


def test_operations_on_other_partitions_do_not_matter(directory: Milvus1xDirectory, log: Log) -> None:
    news = directory.collection("news", dimension=4)
    for tag in ("x", "y"):
        directory.partition(news, tag)
    log.add(INSERT_FLOAT, "news", "", (1,), bytes(16))
    log.add(DELETE, "news", "y", (1,))
    log.write()
    assert errors(inspect(directory.write(), {"news": ["x"]}, unflushed_log="error")) == {"news": ""}


def test_a_damaged_log_refuses_the_collections_but_not_the_run(directory: Milvus1xDirectory, log: Log) -> None:
    directory.collection("news", dimension=4)
    log.add(INSERT_FLOAT, "news", ids=(1,), data=bytes(16))
    log.write(meta=(0, 1 << 20, 1 << 20))
    [found] = errors(inspect(directory.write())).values()
    assert "log is cut" in found


def test_a_real_log_holds_what_its_server_wrote(real_data: Path) -> None:
    records = list(read_log(real_data / "milvus" / "wal"))
    assert [(record.collection, record.rows) for record in records] == [
        *[("test1", 22)] * 2,
        *[("test2", 22)] * 2,
        *[("imagesearch", 22)] * 7,
    ]
    assert set(errors(inspect(real_data / "milvus")).values()) == {""}
