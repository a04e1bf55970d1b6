"""The records of a 1.x server's log, and the policies `ignore` and `error` for rows that are only there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.milvus1x.log import Log, LogRecord, last_lsn
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, FLUSH, INSERT_BINARY, INSERT_FLOAT
from tests.support.milvus1x_log import Log as Log1x
from tests.support.milvus1x_rows import DROPPED
from tests.support.reading import assert_in_order, errors, inspect
from tests.support.tree_checksum import tree_checksum


@pytest.fixture
def log(directory: Milvus1xDirectory) -> Log1x:
    return Log1x(directory.path / "wal")


def read_log(folder: Path, start: int = 0) -> list[LogRecord]:
    """All records of a log, which must be complete."""
    log = Log(folder, start, last_lsn(folder, 0) or 0)
    records = list(log.records())
    assert log.gap is None
    return records


def test_records_are_read_in_order_through_all_files(log: Log1x) -> None:
    first = log.add(INSERT_FLOAT, "news", "新闻", (1, -2), bytes(32))
    second = log.add(FLUSH, "news")
    log.next_file()
    log.add(FLUSH, "other")
    log.next_file(skip=8)
    third = log.add(DELETE, "news", ids=(5,))
    log.write()
    for name in ("010.wal", "٣.wal", "-1.wal", "notes.wal"):
        log.folder.joinpath(name).write_bytes(log.files[0])
    log.files |= dict.fromkeys(range(2, 10), log.files[1])
    found = list(Log(log.folder, third, third).records())
    assert found == [
        LogRecord(first, INSERT_FLOAT, "news", "新闻", 2, 32, 31),
        LogRecord(second, FLUSH, "news", "", 0, 0, 104),
        LogRecord(1 << 32 | 26, FLUSH, "other", "", 0, 0, 26),
        LogRecord(third, DELETE, "news", "", 1, 0, 25),
    ]
    assert third >> 32 == 10


def test_no_log_has_no_records(tmp_path: Path) -> None:
    assert read_log(tmp_path / "nowhere") == []
    (tmp_path / "mxlog.meta").write_bytes(b"short")
    (tmp_path / "notes.wal").write_bytes(b"not the server's")
    assert read_log(tmp_path) == []


@pytest.mark.parametrize("third_is_second", [True, False])
def test_records_after_the_last_acknowledged_one_are_ignored(log: Log1x, third_is_second: bool) -> None:
    last = log.add(INSERT_FLOAT, "news", ids=(1,), data=bytes(16))
    log.add(INSERT_FLOAT, "news", ids=(2,), data=bytes(16))
    log.write(meta=(0, last, last) if third_is_second else (last, 5, 6))
    assert [record.lsn for record in read_log(log.folder)] == [last]


@pytest.mark.parametrize("tail", [b"torn", bytes(64), b"\xff" * 64])
def test_an_incomplete_record_after_the_last_one_is_ignored(log: Log1x, tail: bytes) -> None:
    last = log.add(INSERT_FLOAT, "news", ids=(1,), data=bytes(16))
    log.write()
    with (log.folder / "0.wal").open("ab") as file:
        file.write(tail)
    assert [record.lsn for record in read_log(log.folder)] == [last]


def fault_of(directory: Milvus1xDirectory, log: Log1x) -> str:
    """Why `news`, which was never flushed, is refused; with `ignore` the report has the same text."""
    [fault] = errors(inspect(directory.path, "news")).values()
    [stricter] = errors(inspect(directory.path, "news", unflushed_log="error")).values()
    assert stricter == fault or not fault
    [group] = inspect(directory.path, "news", unflushed_log="ignore")
    assert group.error == ""
    assert bool(fault) == any("log was ignored" in note and fault in note for note in group.notes)
    return fault


@pytest.fixture
def three_files(directory: Milvus1xDirectory, log: Log1x) -> Log1x:
    """A log of three files, two records in each, and `news`, which was never flushed."""
    for number in range(3):
        for row_id in (2 * number, 2 * number + 1):
            log.insert("news", "", [row_id], np.zeros((1, 4), np.float32))
        if number < 2:
            log.next_file()
    log.write()
    directory.segment(directory.collection("news", dimension=4), [100], [[0, 0, 0, 0]])
    directory.write()
    return log


RECORD_BYTES = 21 + 4 + 8 + 16


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("size", [None, 0, 20, RECORD_BYTES - 1, RECORD_BYTES + 1, 2 * RECORD_BYTES - 1])
def test_a_file_of_the_log_that_is_missing_empty_or_cut_refuses_the_collection(
    directory: Milvus1xDirectory, three_files: Log1x, number: int, size: int | None
) -> None:
    assert fault_of(directory, three_files) == ""
    path = three_files.folder / f"{number}.wal"
    content = path.read_bytes()
    path.unlink() if size is None else path.write_bytes(content[:size])
    what = "iles of the 1.x server's log are missing" if size is None else "log is cut or overwritten"
    place = f"Expected {number}.wal" if size is None else f"{number}.wal. Expected records up to lsn"
    last = f"from lsn 0 to {three_files.last_lsn}"
    assert_in_order(fault_of(directory, three_files), [what, place, "found", last, "unflushed_log: ignore"])


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_instead_of_a_file_refuses_the_collection(
    directory: Milvus1xDirectory, log: Log1x, make: Callable[[Path], None]
) -> None:
    log.write()
    make(log.folder / "1.wal")
    directory.collection("news", dimension=8)
    [group] = inspect(directory.write())
    assert_in_order(group.error, ["1.wal", "xpected a regular file", "found a folder, a pipe", "unflushed_log: ignore"])
    [group] = inspect(directory.path, unflushed_log="ignore")
    assert group.error == ""


def test_several_missing_files_are_named_together(directory: Milvus1xDirectory, three_files: Log1x) -> None:
    for number in (0, 1):
        three_files.folder.joinpath(f"{number}.wal").unlink()
    assert "Expected 0.wal to 1.wal, found none" in fault_of(directory, three_files)


def test_a_last_record_with_another_end_than_in_the_meta_refuses_the_collection(
    directory: Milvus1xDirectory, three_files: Log1x
) -> None:
    between = three_files.last_lsn - 5
    three_files.write(meta=(0, between, between))
    assert f"Expected records up to lsn {between}" in fault_of(directory, three_files)


def test_a_head_that_covers_the_next_record_refuses_the_collection(
    directory: Milvus1xDirectory, three_files: Log1x
) -> None:
    head = bytearray(three_files.files[1])
    head[:8] = (1 << 32 | 2 * RECORD_BYTES).to_bytes(8, "little")
    three_files.files[1] = bytes(head)
    three_files.write()
    assert "1.wal. Expected records up to lsn" in fault_of(directory, three_files)


@pytest.mark.parametrize("size", [None, 0, 23, 24])
def test_files_without_a_meta_refuse_the_collection(
    directory: Milvus1xDirectory, three_files: Log1x, size: int | None
) -> None:
    meta = three_files.folder / "mxlog.meta"
    meta.unlink() if size is None else meta.write_bytes(bytes(size))
    assert_in_order(
        fault_of(directory, three_files), ["log does not say where it ends", "mxlog.meta", "24 bytes", "unflushed_log"]
    )


def test_a_meta_older_than_the_catalog_refuses_the_collection(directory: Milvus1xDirectory, three_files: Log1x) -> None:
    directory.collection("other", dimension=4, flush_lsn=three_files.last_lsn)
    directory.write()
    assert fault_of(directory, three_files) == ""
    older = 1 << 32 | RECORD_BYTES
    three_files.write(meta=(0, older, older))
    assert f"at least {three_files.last_lsn}" in fault_of(directory, three_files)


@pytest.mark.parametrize("by", ["global_lsn", "flush_lsn"])
def test_files_before_the_start_of_the_server_may_be_missing(directory: Milvus1xDirectory, by: str) -> None:
    log = Log1x(directory.path / "wal")
    flushed = log.insert("news", "", [1], np.zeros((1, 4), np.float32))
    log.next_file(skip=1)
    log.insert("news", "", [2], np.zeros((1, 4), np.float32))
    started = log.insert("news", "", [3], np.zeros((1, 4), np.float32))
    log.insert("news", "", [4], np.zeros((1, 4), np.float32))
    log.write()
    log.folder.joinpath("0.wal").unlink()
    directory.global_lsn = started * (by == "global_lsn")
    directory.collection("news", dimension=4, flush_lsn=started if by == "flush_lsn" else flushed)
    [group] = inspect(directory.write())
    assert (group.error, [part.live_rows for part in group.partitions]) == ("", [1])
    excluded = [
        note for note in group.notes if "2 rows in the 1.x server's log are not migrated, as the server" in note
    ]
    assert len(excluded) == (by == "global_lsn")


def test_a_gap_refuses_only_the_collections_that_were_flushed_before_it(
    directory: Milvus1xDirectory, three_files: Log1x
) -> None:
    later = directory.collection("later", dimension=4, flush_lsn=2 << 32 | RECORD_BYTES)
    directory.partition(later, "behind", flush_lsn=1 << 32 | RECORD_BYTES)
    three_files.insert("later", "", [1], np.zeros((1, 4), np.float32))
    three_files.write()
    directory.write()
    three_files.folder.joinpath("1.wal").unlink()
    found = errors(inspect(directory.path, {"news": None, "later": ["_default"]}))
    assert "1.wal" in found["news"]
    assert found["later"] == ""
    [group] = inspect(directory.path, {"later": ["_default"]})
    [resolved] = resolve_group(group).partitions
    assert resolved.live_rows == group.partitions[0].replayed_rows == 1
    assert all("1.wal" in error for error in errors(inspect(directory.path)).values())


def test_a_file_that_ends_before_what_the_catalog_says_was_flushed_refuses_the_collection(
    directory: Milvus1xDirectory, three_files: Log1x
) -> None:
    directory.collection("other", dimension=4, flush_lsn=1 << 32 | 2 * RECORD_BYTES)
    directory.write()
    path = three_files.folder / "1.wal"
    path.write_bytes(path.read_bytes()[:RECORD_BYTES])
    assert f"up to lsn {1 << 32 | 2 * RECORD_BYTES}" in fault_of(directory, three_files)


def test_a_missing_last_file_is_noticed_if_a_later_file_exists(
    directory: Milvus1xDirectory, three_files: Log1x
) -> None:
    three_files.folder.joinpath("2.wal").rename(three_files.folder / "3.wal")
    assert "Expected 2.wal, found none" in fault_of(directory, three_files)


def test_the_log_of_another_server_refuses_the_collection(directory: Milvus1xDirectory, three_files: Log1x) -> None:
    directory.collection("other", dimension=4, flush_lsn=1 << 32 | RECORD_BYTES)
    directory.write()
    assert fault_of(directory, three_files) == ""
    another = Log1x(three_files.folder)
    for number in range(3):
        another.insert("another", "", range(5), np.zeros((5, 4), np.float32))
        if number < 2:
            another.next_file()
    another.write()
    assert_in_order(
        fault_of(directory, another),
        ["does not belong to its catalog", "1.wal", str(1 << 32 | RECORD_BYTES), "wal_path"],
    )


def test_a_flush_with_rows_is_not_a_valid_record(directory: Milvus1xDirectory, three_files: Log1x) -> None:
    head = bytearray(three_files.files[2])
    head[8] = FLUSH
    three_files.files[2] = bytes(head)
    three_files.write()
    assert "2.wal. Expected records up to lsn" in fault_of(directory, three_files)


def test_rows_after_the_last_acknowledged_record_are_noted(directory: Milvus1xDirectory, three_files: Log1x) -> None:
    behind = 1 << 32 | RECORD_BYTES
    three_files.write(meta=(0, behind, behind))
    [group] = inspect(directory.path)
    assert (group.error, group.partitions[0].replayed_rows) == ("", 3)
    assert [note for note in group.notes if note.startswith("3 rows in the 1.x server's log are not migrated")]


def test_a_file_that_ends_before_the_server_begins_to_read_refuses_the_collection(
    directory: Milvus1xDirectory, three_files: Log1x
) -> None:
    directory.global_lsn = 2 * RECORD_BYTES
    directory.write()
    assert fault_of(directory, three_files) == ""
    path = three_files.folder / "0.wal"
    path.write_bytes(path.read_bytes()[:RECORD_BYTES])
    assert f"0.wal. Expected records up to lsn {2 * RECORD_BYTES}" in fault_of(directory, three_files)


@pytest.mark.parametrize("kept", [RECORD_BYTES, RECORD_BYTES - 1])
def test_a_file_that_is_cut_refuses_a_collection_that_was_flushed_in_what_is_missing(
    directory: Milvus1xDirectory, three_files: Log1x, kept: int
) -> None:
    directory.collection("other", dimension=4, flush_lsn=1 << 32 | 2 * RECORD_BYTES)
    directory.write()
    path = three_files.folder / "1.wal"
    path.write_bytes(path.read_bytes()[:kept])
    assert all("1.wal. Expected records up to lsn" in error for error in errors(inspect(directory.path)).values())


@pytest.mark.parametrize("left", [None, "folder", "meta"])
def test_a_directory_without_a_log_is_migrated_and_the_report_says_so(
    directory: Milvus1xDirectory, log: Log1x, left: str | None
) -> None:
    directory.collection("news", dimension=4, flush_lsn=5)
    directory.collection("other", dimension=4)
    shutil.rmtree(directory.write() / "wal")
    if left:
        log.folder.mkdir()
        log.folder.joinpath("3.wal").write_bytes(b"")
    if left == "meta":
        log.folder.joinpath("mxlog.meta").write_bytes(bytes(24))
    groups = inspect(directory.path)
    assert [group.error for group in groups] == ["", ""]
    assert groups[0].notes == (
        f"no log of the 1.x server in {log.folder}: rows that were only in the log, if any, are not migrated",
    )
    assert groups[1].notes == ()


def test_a_log_whose_rows_are_all_flushed_needs_no_note(directory: Milvus1xDirectory, log: Log1x) -> None:
    flushed = log.insert("news", "", [1], np.zeros((1, 4), np.float32))
    directory.collection("news", dimension=4, flush_lsn=flushed)
    directory.write()
    log.write()
    log.folder.joinpath("0.wal").unlink()
    [group] = inspect(directory.path)
    assert (group.error, group.notes) == ("", ())


def test_unflushed_rows_refuse_only_their_collection(directory: Milvus1xDirectory, log: Log1x) -> None:
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
    log: Log1x,
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


def test_a_deletion_without_a_tag_is_for_all_partitions(directory: Milvus1xDirectory, log: Log1x) -> None:
    directory.partition(directory.collection("news", dimension=4), "x")
    log.add(DELETE, "news", ids=(7, 8))
    log.write()
    [found] = errors(inspect(directory.write(), {"news": ["x"]}, unflushed_log="error")).values()
    assert "0 inserted and 2 deleted" in found


def test_operations_on_other_partitions_do_not_matter(directory: Milvus1xDirectory, log: Log1x) -> None:
    news = directory.collection("news", dimension=4)
    for tag in ("x", "y"):
        directory.partition(news, tag)
    log.add(INSERT_FLOAT, "news", "", (1,), bytes(16))
    log.add(DELETE, "news", "y", (1,))
    log.write()
    assert errors(inspect(directory.write(), {"news": ["x"]}, unflushed_log="error")) == {"news": ""}


def test_a_damaged_log_refuses_collections_but_not_the_run(directory: Milvus1xDirectory, log: Log1x) -> None:
    directory.collection("news", dimension=4)
    log.add(INSERT_FLOAT, "news", ids=(1,), data=bytes(16))
    log.write(meta=(0, 1 << 20, 1 << 20))
    [found] = errors(inspect(directory.write())).values()
    assert "log is cut" in found


def test_a_real_log_holds_what_its_server_wrote(real_data: Path) -> None:
    records = read_log(real_data / "milvus" / "wal")
    assert [(record.collection, record.rows) for record in records] == [
        *[("test1", 22)] * 2,
        *[("test2", 22)] * 2,
        *[("imagesearch", 22)] * 7,
    ]
    assert set(errors(inspect(real_data / "milvus")).values()) == {""}
