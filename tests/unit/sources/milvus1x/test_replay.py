"""Operations that are only in the 1.x server's log are replayed as the server does when it starts."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import ChangedSourceError, DamagedSourceError, SourceError
from airflow_provider_milvusdm.manifests import ResolvedGroup
from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.rows.resolve import resolve_group
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, ENTITY, FLUSH, INSERT_FLOAT, UPDATE, Log
from tests.support.milvus1x_rows import DROPPED, HAMMING, L2
from tests.support.reading import assert_in_order, errors, inspect, read_rows, resolve
from tests.support.tree_checksum import tree_checksum

DIMENSION = 4
REMAP = RowPolicies(duplicate_ids="remap")
"""Keeps every row, because an id may be on several rows."""

Rows = list[tuple[int, bytes]]


@pytest.fixture
def log(directory: Milvus1xDirectory) -> Log:
    return Log(directory.path / "wal")


def vectors(*values: float) -> np.ndarray:
    """One vector per value."""
    return np.repeat(np.array(values, np.float32)[:, None], DIMENSION, axis=1)


def row(row_id: int, value: float) -> tuple[int, bytes]:
    return row_id, vectors(value).tobytes()


def replayed(path: Path, collection: str = "news", tags: Sequence[str] | None = None) -> dict[str, Rows]:
    """The rows of each partition, as a load task reads them."""
    before = tree_checksum(path)
    units = [unit for group in resolve(path, {collection: tags}) for unit in group.units]
    found = {tag: rows for (_, tag), rows in read_rows(units).items()}
    assert tree_checksum(path) == before
    return found


def source_rows(groups: Iterable[ResolvedGroup]) -> dict[str, Rows]:
    """The rows of each partition with their ids in the source, if they get new keys."""
    found: dict[str, Rows] = {}
    for unit in (unit for group in groups for unit in group.units):
        for _, tag, batch in read_slices(unit.source, unit.collection, unit.slices, 7):
            ids = np.asarray(batch.columns[SOURCE_ID]).tolist()
            found.setdefault(tag, []).extend(zip(ids, (vector.tobytes() for vector in batch.vectors), strict=True))
    return {tag: rows for tag, rows in found.items() if rows}


def test_an_id_inserted_again_after_a_deletion_has_its_last_row(directory: Milvus1xDirectory, log: Log) -> None:
    news = directory.collection("news", dimension=DIMENSION)
    directory.segment(news, [1, 2, 3], vectors(1, 2, 3), deleted=[2])
    log.insert("news", "", [4, 5], vectors(4, 5))
    log.add(DELETE, "news", ids=(1, 4, 99))
    log.insert("news", "", [4, 1], vectors(44, 11))
    log.insert("news", "_default", [6], vectors(6))
    log.add(FLUSH, "news")
    log.write()
    path = directory.write()
    assert replayed(path) == {"_default": [row(2, 2), row(5, 5), row(4, 44), row(1, 11), row(6, 6)]}
    [group] = inspect(path)
    assert group.notes == ("replayed from the 1.x server's log: 5 rows inserted, 3 ids deleted",)
    [[partition]] = [resolved.partitions for resolved in resolve(path)]
    assert (partition.live_rows, partition.deleted_rows) == (5, 3)


def test_a_deletion_is_for_all_partitions_or_for_that_of_its_tag(directory: Milvus1xDirectory, log: Log) -> None:
    news = directory.collection("news", dimension=DIMENSION)
    for table in (news, directory.partition(news, "x"), directory.partition(news, "a/b 新")):
        directory.segment(table, [1, 2, 3], vectors(1, 2, 3))
    log.insert("news", "a/b 新", [7], vectors(7))
    log.add(DELETE, "news", ids=(1, 7))
    log.add(DELETE, "news", "x", ids=(2,))
    log.add(DELETE, "news", "_default", ids=(3,))
    log.insert("news", "a/b 新", [7, 8], vectors(77, 8))
    log.write()
    path = directory.write()
    assert replayed(path) == {
        "_default": [row(2, 2)],
        "x": [row(3, 3)],
        "a/b 新": [row(2, 2), row(3, 3), row(7, 77), row(8, 8)],
    }
    assert replayed(path, tags=["x"]) == {"x": [row(3, 3)]}


def test_a_partition_that_a_killed_flush_did_not_reach_gets_its_operations(
    directory: Milvus1xDirectory, log: Log
) -> None:
    flushed = log.insert("news", "x", [1, 2], vectors(1, 2))
    log.insert("news", "x", [3, 4], vectors(3, 4))
    log.insert("news", "", [7], vectors(7))
    collection_flushed = log.add(DELETE, "news", ids=(2, 3))
    log.write()
    news = directory.collection("news", dimension=DIMENSION, flush_lsn=collection_flushed)
    directory.segment(news, [7], vectors(7))
    directory.segment(directory.partition(news, "x", flush_lsn=flushed), [1, 2], vectors(1, 2))
    path = directory.write()
    assert replayed(path) == {"_default": [row(7, 7)], "x": [row(1, 1), row(4, 4)]}
    notes = {part.tag: part.notes for group in resolve(path) for part in group.partitions}
    assert notes == {
        "_default": (),
        "x": ("partition 'x': 2 rows inserted and 2 deleted by the server's log",),
    }


@pytest.mark.parametrize("max_tasks", [2, 4, 1024])
def test_partitions_resolved_by_several_tasks_are_replayed_alike(
    directory: Milvus1xDirectory, log: Log, max_tasks: int
) -> None:
    news = directory.collection("news", dimension=DIMENSION)
    for number in range(5):
        directory.segment(directory.partition(news, f"p{number}"), [1, 2], vectors(1, 2))
    log.add(DELETE, "news", ids=(1,))
    log.insert("news", "p0", [3], vectors(3))
    log.write()
    units = [unit for group in resolve(directory.write(), unit_bytes=1, max_tasks=max_tasks) for unit in group.units]
    found = {tag: rows for (_, tag), rows in read_rows(units).items()}
    assert found == {"p0": [row(2, 2), row(3, 3)]} | {f"p{number}": [row(2, 2)] for number in range(1, 5)}


def test_only_records_after_the_flush_are_replayed(directory: Milvus1xDirectory, log: Log) -> None:
    log.insert("news", "", [1], vectors(1))
    log.add(DELETE, "news", ids=(2,))
    flushed = log.insert("news", "x", [1], vectors(1))
    log.insert("news", "", [3], vectors(3))
    log.next_file()
    partition_flushed = log.insert("news", "x", [4], vectors(4))
    log.insert("news", "", [5], vectors(5))
    log.insert("news", "x", [6], vectors(6))
    log.write()
    news = directory.collection("news", dimension=DIMENSION, flush_lsn=flushed)
    directory.segment(news, [1, 2], vectors(1, 2))
    directory.segment(directory.partition(news, "x", flush_lsn=partition_flushed), [1, 4], vectors(1, 4))
    path = directory.write()
    assert replayed(path) == {
        "_default": [row(1, 1), row(2, 2), row(3, 3), row(5, 5)],
        "x": [row(1, 1), row(4, 4), row(6, 6)],
    }
    segments = [segment.name for group in inspect(path) for part in group.partitions for segment in part.segments]
    assert [name for name in segments if name.startswith("wal/")] == ["wal/0/_default", "wal/1/_default", "wal/1/x"]


def test_a_partition_flushed_after_its_collection_keeps_rows_inserted_after_a_deletion(
    directory: Milvus1xDirectory, log: Log
) -> None:
    log.add(DELETE, "news", ids=(1,))
    flushed = log.insert("news", "x", [1], vectors(1))
    log.write()
    news = directory.collection("news", dimension=DIMENSION)
    directory.segment(news, [1, 2], vectors(1, 2))
    directory.segment(directory.partition(news, "x", flush_lsn=flushed), [1], vectors(1))
    assert replayed(directory.write()) == {"_default": [row(2, 2)], "x": [row(1, 1)]}


def test_the_log_alone_can_hold_a_collection_of_binary_vectors(directory: Milvus1xDirectory, log: Log) -> None:
    bits = np.array([[1, 0], [0, 0], [255, 0]], np.uint8)
    directory.collection("news", dimension=16, metric=HAMMING)
    log.insert("news", "", [1, 2], bits[:2])
    log.add(DELETE, "news", ids=(1,))
    log.insert("news", "", [3], bits[2:])
    log.write()
    assert replayed(directory.write()) == {"_default": [(2, b"\0\0"), (3, b"\xff\0")]}


def test_an_incomplete_record_at_the_end_is_ignored(directory: Milvus1xDirectory, log: Log) -> None:
    directory.collection("news", dimension=DIMENSION)
    log.insert("news", "", [1], vectors(1))
    last = log.last_lsn
    log.insert("news", "", [2], vectors(2))
    log.write(meta=(0, last, last))
    path = directory.write()
    file = log.folder / "0.wal"
    file.write_bytes(file.read_bytes()[:-5])
    assert replayed(path) == {"_default": [row(1, 1)]}


def test_rows_of_unknown_collections_are_noted_and_ignored(directory: Milvus1xDirectory, log: Log) -> None:
    news = directory.collection("news", dimension=DIMENSION)
    directory.collection("old", dimension=DIMENSION, state=DROPPED)
    directory.partition(news, "gone", state=DROPPED)
    directory.collection("other", dimension=DIMENSION)
    for name, tag, ids in (("old", "", [1, 2]), ("never", "", [1]), ("news", "gone", [1]), ("never", "x", [2, 3])):
        log.insert(name, tag, ids, vectors(*ids))
    log.write()
    path = directory.write()
    [news_group, *_], [other] = ([g for g in inspect(path) if g.name == name] for name in ("news", "other"))
    assert_in_order(news_group.notes[0], ["they are not migrated: ", "never (3), news/gone (1), old (2)"])
    assert other.notes == ()
    assert replayed(path) == {}


@pytest.mark.parametrize("kind", [UPDATE, ENTITY])
def test_operations_that_can_not_be_replayed_refuse_only_their_collection(
    directory: Milvus1xDirectory, log: Log, kind: int
) -> None:
    for name in ("news", "other"):
        directory.collection(name, dimension=DIMENSION)
    log.add(kind, "news", ids=(1,), data=bytes(16))
    log.insert("other", "", [1], vectors(1))
    log.write()
    found = errors(inspect(directory.write()))
    assert found["other"] == ""
    assert_in_order(found["news"], ["can't be replayed", str(log.folder), f"1 records of type {kind}", "ignore"])
    assert set(errors(inspect(directory.path, unflushed_log="ignore")).values()) == {""}


@pytest.mark.parametrize("data", [bytes(15), bytes(17), bytes(32), b""])
def test_vectors_of_another_size_are_damage(directory: Milvus1xDirectory, log: Log, data: bytes) -> None:
    directory.collection("news", dimension=DIMENSION)
    log.add(INSERT_FLOAT, "news", ids=(1,), data=data)
    log.write()
    [group] = inspect(directory.write())
    with pytest.raises(DamagedSourceError) as fault:
        resolve_group(group)
    assert_in_order(str(fault.value), ["contradicts itself", "0.wal", "1 ids and 16 bytes", f"found {len(data)} bytes"])


def test_a_log_that_grows_after_it_was_inspected_changes_nothing(directory: Milvus1xDirectory, log: Log) -> None:
    directory.segment(directory.collection("news", dimension=DIMENSION), [1, 2], vectors(1, 2))
    log.insert("news", "", [3], vectors(3))
    log.write()
    groups = inspect(directory.write())
    log.add(DELETE, "news", ids=(1, 3))
    log.insert("news", "", [4], vectors(4))
    log.write()
    [rows] = read_rows([unit for group in groups for unit in resolve_group(group).units]).values()
    assert rows == [row(1, 1), row(2, 2), row(3, 3)]


def test_a_log_that_is_cleared_after_inspection_stops_the_run(directory: Milvus1xDirectory, log: Log) -> None:
    directory.segment(directory.collection("news", dimension=DIMENSION), [1, 2], vectors(1, 2))
    log.add(DELETE, "news", ids=(1,))
    log.write()
    [group] = inspect(directory.write())
    log.files = {0: b""}
    log.write()
    with pytest.raises(ChangedSourceError, match="log changed since"):
        resolve_group(group)


def test_a_file_of_deletions_that_is_removed_after_inspection_stops_the_run(
    directory: Milvus1xDirectory, log: Log
) -> None:
    directory.segment(directory.collection("news", dimension=DIMENSION), [1, 2], vectors(1, 2))
    log.add(DELETE, "news", ids=(1,))
    log.next_file()
    log.insert("news", "", [3], vectors(3))
    log.write()
    [group] = inspect(directory.write())
    [unit] = resolve_group(group).units
    log.folder.joinpath("0.wal").unlink()
    with pytest.raises(
        SourceError, match=f"log changed since.* found none of them, or not all, before lsn {(1 << 32) - 1}"
    ):
        resolve_group(group)
    with pytest.raises(ChangedSourceError, match="log changed since"):
        read_rows([unit])


def test_a_log_whose_records_now_name_another_partition_stops_the_run(directory: Milvus1xDirectory, log: Log) -> None:
    news = directory.collection("news", dimension=DIMENSION)
    for tag in "xy":
        directory.partition(news, tag)
    log.insert("news", "x", [3], vectors(3))
    log.write()
    groups = inspect(directory.write(), unit_bytes=1)
    [group] = [group for group in groups if group.partitions[0].tag == "x"]
    another = Log(log.folder)
    another.insert("news", "y", [3], vectors(3))
    another.write()
    with pytest.raises(ChangedSourceError, match="insert into partition 'x', found none"):
        resolve_group(group)


def test_a_collection_named_wal_is_replayed(directory: Milvus1xDirectory, log: Log) -> None:
    wal = directory.collection("wal", dimension=DIMENSION)
    directory.segment(wal, [1, 2], vectors(1, 2))
    log.add(DELETE, "wal", ids=(1,))
    log.insert("wal", "", [3], vectors(3))
    log.write()
    assert replayed(directory.write(), "wal") == {"_default": [row(2, 2), row(3, 3)]}


def test_policies_apply_to_rows_of_the_log(directory: Milvus1xDirectory, log: Log) -> None:
    directory.segment(directory.collection("news", dimension=DIMENSION), [1], vectors(1))
    log.insert("news", "", [1, 2], vectors(11, float("nan")))
    log.write()
    [group] = inspect(directory.write())
    with pytest.raises(SourceError) as fault:
        resolve_group(group)
    assert_in_order(str(fault.value), ["NaN", "segment wal/0/_default", "ids 2"])
    with pytest.raises(SourceError, match="wal/0/_default"):
        resolve_group(group, RowPolicies(invalid_vectors="skip", skipped_rows_dir=str(directory.path / "skipped")))


def test_an_empty_or_missing_log_does_not_change_the_manifest(directory: Milvus1xDirectory, log: Log) -> None:
    directory.segment(directory.collection("news", dimension=DIMENSION), [1], vectors(1))
    shutil.rmtree(directory.write() / "wal")
    [without] = inspect(directory.path)
    log.add(FLUSH, "news")
    log.write()
    [with_log] = inspect(directory.path)
    assert with_log == replace(without, notes=())
    assert without.source.options == {}


@dataclass
class Model:
    """The rules, row by row: a partition is a list of rows, and each operation returns a new list."""

    lsns: dict[str, int]
    rows: dict[str, Rows] = field(default_factory=dict)

    def is_applied(self, lsn: int, tag: str) -> bool:
        return lsn > self.lsns[tag]

    def insert(self, lsn: int, tag: str, rows: Rows) -> None:
        if self.is_applied(lsn, tag):
            self.rows[tag] = self.rows[tag] + rows

    def delete(self, lsn: int, tag: str, ids: set[int]) -> None:
        for name in [tag] if tag else self.rows:
            if self.is_applied(lsn, name):
                self.rows[name] = [row for row in self.rows[name] if row[0] not in ids]


def test_deletions_are_sorted_once_and_not_for_each_segment(
    directory: Milvus1xDirectory, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    news = directory.collection("news", dimension=DIMENSION)
    for table in (news, directory.partition(news, "x")):
        for number in range(20):
            directory.segment(table, [number, 100 + number], vectors(1, 2))
    log.add(DELETE, "news", ids=tuple(range(20)))
    log.add(DELETE, "news", "x", ids=(100,))
    log.write()
    groups = inspect(directory.write(), max_tasks=2)
    sorts: list[int] = []
    sort = np.lexsort
    monkeypatch.setattr(np, "lexsort", lambda keys: sorts.append(len(keys[0])) or sort(keys))
    units = [unit for group in groups for unit in resolve_group(group).units]
    assert {tag: len(rows) for (_, tag), rows in read_rows(units).items()} == {"_default": 20, "x": 19}
    assert len(sorts) < 8


@pytest.mark.parametrize("seed", range(30))
def test_any_log_is_replayed_by_the_rules(directory: Milvus1xDirectory, log: Log, seed: int) -> None:
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    metric = chance.choice([L2, HAMMING])
    tags = ["_default", "x", "y"]

    def make_vectors(rows: int) -> np.ndarray:
        if metric == HAMMING:
            return numbers.integers(0, 256, (rows, 2), np.uint8)
        return numbers.standard_normal((rows, 16), np.float32)

    def pairs(ids: list[int], vectors: np.ndarray) -> Rows:
        return list(zip(ids, (vector.tobytes() for vector in vectors), strict=True))

    operations = []
    for _ in range(60):
        ids = [chance.randrange(-20, 20) for _ in range(chance.randrange(1, 6))]
        tag, vectors = chance.choice(tags), make_vectors(len(ids))
        match chance.randrange(10):
            case 0 if log.files[max(log.files)]:
                log.next_file()
            case 1 | 2 | 3:
                tag = chance.choice(["", *tags])
                operations.append((log.add(DELETE, "news", tag, tuple(ids)), tag, ids, None))
            case 4:
                log.insert("others", tag, ids, vectors)
            case _:
                lsn = log.insert("news", "" if tag == "_default" else tag, ids, vectors)
                operations.append((lsn, tag, ids, vectors))
    log.write()
    lsns = {tag: chance.choice([0, chance.choice(operations)[0]]) for tag in tags}
    model = Model(lsns)
    news = directory.collection("news", dimension=16, metric=metric, flush_lsn=lsns["_default"])
    for tag in tags:
        table = news if tag == "_default" else directory.partition(news, tag, flush_lsn=lsns[tag])
        for _ in range(2):
            ids, vectors = chance.sample(range(-20, 20), 10), make_vectors(10)
            directory.segment(table, ids, vectors, deleted=chance.sample(range(10), 3))
        model.rows[tag] = directory.live_rows("news", tag)
    for lsn, tag, ids, inserted in operations:
        if inserted is None:
            model.delete(lsn, tag, set(ids))
        else:
            model.insert(lsn, tag, pairs(ids, inserted))
    path = directory.write()
    unit_bytes = chance.choice([100, 1 << 20])
    groups = resolve(path, policies=REMAP, unit_bytes=unit_bytes)
    assert {part.tag: part.live_rows for group in groups for part in group.partitions} == {
        tag: len(rows) for tag, rows in model.rows.items()
    }
    assert source_rows(groups) == {tag: rows for tag, rows in model.rows.items() if rows}
