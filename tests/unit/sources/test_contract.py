"""The contract of every source, whatever its format."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import ChangedSourceError
from airflow_provider_milvusdm.manifests import PartitionGroup, from_json, to_json
from airflow_provider_milvusdm.model import shares
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.rows import RowPolicies, VectorBatch, ranges
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows import key_ranges
from airflow_provider_milvusdm.rows.divide import divide_groups
from airflow_provider_milvusdm.rows.join_shares import join_shares
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.base import Segment
from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions
from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options
from airflow_provider_milvusdm.sources.registry import open_source
from tests.support import faiss_inputs, hdf5_inputs
from tests.support.faiss_inputs import make_index, write_index, write_on_disk
from tests.support.hdf5_inputs import add_strings, write_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.milvus1x_rows import HAMMING
from tests.support.reading import inspect as inspect_milvus1x
from tests.support.tree_checksum import tree_checksum

ROWS = 121  # the least that NSG accepts
FIRST_ID = 5
RANDOM = np.random.default_rng(20_210_305)
FLOATS = RANDOM.standard_normal((ROWS, 16)).astype(np.float32)
BITS = RANDOM.integers(0, 256, (ROWS, 4), np.uint8)
BITS[::3, 1:] = 0  # trailing zero bytes, and rows of zeros only
BITS[::9] = 0
IDS = RANDOM.permutation(np.arange(ROWS)).astype(np.int64) * 7 - 100
NUMBERS = np.arange(FIRST_ID, FIRST_ID + ROWS)

Build = Callable[[Path, np.ndarray], PartitionGroup]


@dataclass(frozen=True)
class Case:
    """A source with rows of `vectors`; `build` gives them ids, or numbers them from the first id."""

    build: Build
    vectors: np.ndarray = field(default_factory=lambda: FLOATS)
    ids: np.ndarray = field(default_factory=lambda: IDS)
    is_exact: bool = True
    deleted: tuple[int, ...] = ()

    @property
    def rows(self) -> dict[int, bytes]:
        rows = zip(self.ids.tolist(), (vector.tobytes() for vector in self.vectors), strict=True)
        return {row_id: vector for place, (row_id, vector) in enumerate(rows) if place not in self.deleted}


def milvus1x(**collection: Any) -> Build:
    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        vectors = BITS if collection else FLOATS
        directory = Milvus1xDirectory(folder)
        news = directory.collection("news", dimension=32 if collection else 16, **collection)
        directory.segment(news, ids[:40].tolist(), vectors[:40], deleted=[3, 39, 0])
        directory.segment(news, ids[40:].tolist(), vectors[40:])
        [group] = inspect_milvus1x(directory.write())
        return group

    return build


def milvus1x_log(**collection: Any) -> Build:
    """Most rows are in the log: in records of several sizes, in two files, mixed with another partition's."""

    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        vectors = BITS if collection else FLOATS
        directory, log = Milvus1xDirectory(folder), Log(folder / "wal")
        news = directory.collection("news", dimension=32 if collection else 16, **collection)
        directory.segment(news, ids[:40].tolist(), vectors[:40], deleted=[0])
        directory.partition(news, "x")
        for start, stop in pairwise((40, 41, 45, 45, 80, ROWS)):
            log.insert("news", "", ids[start:stop].tolist(), vectors[start:stop])
            log.insert("news", "x", [1, 2], vectors[:2])
            if start == 45:
                log.next_file()
        log.add(DELETE, "news", ids=tuple(ids[[3, 39, 45, 120]].tolist()))
        log.write()
        [group] = inspect_milvus1x(directory.write(), {"news": ["_default"]})
        return group

    return build


def hdf5(vectors: np.ndarray, *, ids_type: Any = np.int64, **storage: Any) -> Build:
    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        path = write_hdf5(folder / "a.h5", {"embeddings": vectors, "ids": ids.astype(ids_type)}, **storage)
        return hdf5_inputs.inspect(path)

    return build


def hdf5_strings(padding: int) -> Build:
    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        path = write_hdf5(folder / "a.h5", {"ids": ids})
        return hdf5_inputs.inspect(add_strings(path, "embeddings", BITS, padding))

    return build


def hdf5_nested(folder: Path, ids: np.ndarray) -> PartitionGroup:
    path = write_hdf5(folder / "a.hdf5", {"/deep/down/vectors": FLOATS, "deep/keys": ids, "embeddings": [[1.0]]})
    return hdf5_inputs.inspect(path, options=Hdf5Options(embeddings="deep/down/vectors", ids_dataset="/deep/keys"))


def hdf5_files(folder: Path, ids: np.ndarray) -> PartitionGroup:
    """Three files, one of them without rows."""
    (folder / "more").mkdir()
    parts = [("b.h5", slice(0, 20)), ("more/a@1.h5", slice(20, 20)), ("a.h5", slice(20, ROWS))]
    paths = [write_hdf5(folder / name, {"embeddings": FLOATS[part], "ids": ids[part]}) for name, part in parts]
    return hdf5_inputs.inspect(paths)


def hdf5_numbered(folder: Path, ids: np.ndarray) -> PartitionGroup:
    parts = [("b.h5", slice(0, 20)), ("a@1.h5", slice(20, 20)), ("a.h5", slice(20, ROWS))]
    paths = [write_hdf5(folder / name, {"embeddings": FLOATS[part]}) for name, part in parts]
    return hdf5_inputs.inspect(paths, id_offset=int(ids[0]))


def faiss_index(kind: str, vectors: np.ndarray, **arguments: Any) -> Build:
    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        return faiss_inputs.inspect(write_index(folder / "a.index", make_index(kind, vectors, ids)), **arguments)

    return build


def faiss_numbered(kind: str, vectors: np.ndarray) -> Build:
    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        path = write_index(folder / "a.index", make_index(kind, vectors))
        return faiss_inputs.inspect(path, id_offset=int(ids[0]), options=FaissOptions(allow_lossy=True))

    return build


def faiss_on_disk(folder: Path, ids: np.ndarray) -> PartitionGroup:
    return faiss_inputs.inspect(write_on_disk(folder / "a.index", FLOATS, ids))


def binary_map(kind: str) -> Build:
    import faiss

    def build(folder: Path, ids: np.ndarray) -> PartitionGroup:
        index = getattr(faiss, kind)(faiss.IndexBinaryFlat(32))
        index.add_with_ids(BITS, ids)
        return faiss_inputs.inspect(write_index(folder / "a.index", index))

    return build


HALVES = FLOATS.astype(np.float16)
LOSSY = FaissOptions(allow_lossy=True)
CASES = {
    "milvus1x float": Case(milvus1x(), deleted=(3, 39, 0)),
    "milvus1x binary": Case(milvus1x(metric=HAMMING), BITS, deleted=(3, 39, 0)),
    "milvus1x log, float": Case(milvus1x_log(), deleted=(0, 3, 39, 45, 120)),
    "milvus1x log, binary": Case(milvus1x_log(metric=HAMMING), BITS, deleted=(0, 3, 39, 45, 120)),
    "hdf5 float32": Case(hdf5(FLOATS)),
    "hdf5 float32, gzip": Case(hdf5(FLOATS, chunks=(7, 3), compression="gzip", shuffle=True)),
    "hdf5 float64, gzip, checksums": Case(
        hdf5(FLOATS.astype("f8"), chunks=(9, 16), compression="gzip", fletcher32=True)
    ),
    "hdf5 float16, lzf": Case(hdf5(HALVES, chunks=(60, 5), compression="lzf"), HALVES.astype(np.float32)),
    "hdf5 float32, big endian": Case(hdf5(FLOATS.astype(">f4"), ids_type=">i4")),
    "hdf5 float32, growing": Case(hdf5(FLOATS, chunks=(10, 16), maxshape=(None, 16))),
    "hdf5 uint8": Case(hdf5(BITS, ids_type=np.int16), BITS),
    "hdf5 bytes": Case(hdf5(BITS.view("S4").ravel(), chunks=(8,), compression="gzip"), BITS),
    "hdf5 bytes, null-terminated": Case(hdf5_strings(h5py.h5t.STR_NULLTERM), BITS),
    "hdf5 bytes, null-padded": Case(hdf5_strings(h5py.h5t.STR_NULLPAD), BITS),
    "hdf5 bytes, space-padded": Case(hdf5_strings(h5py.h5t.STR_SPACEPAD), BITS),
    "hdf5 bool": Case(hdf5(np.unpackbits(BITS, axis=1).astype(bool)), BITS),
    "hdf5 nested": Case(hdf5_nested),
    "hdf5 files": Case(hdf5_files),
    "hdf5 row numbers": Case(hdf5_numbered, ids=NUMBERS),
    "faiss Flat": Case(faiss_numbered("Flat", FLOATS), ids=NUMBERS),
    "faiss HNSW": Case(faiss_numbered("HNSW8,Flat", FLOATS), ids=NUMBERS),
    "faiss NSG": Case(faiss_numbered("NSG8,Flat", FLOATS), ids=NUMBERS),
    "faiss RefineFlat": Case(faiss_numbered("IVF4,SQ8,RFlat", FLOATS), ids=NUMBERS),
    "faiss PreTransform, padding": Case(faiss_numbered("Pad20,Flat", FLOATS), ids=NUMBERS),
    "faiss PreTransform, rotation": Case(faiss_index("RR16,IVF4,Flat", FLOATS), is_exact=False),
    "faiss IDMap": Case(faiss_index("IDMap,Flat", FLOATS)),
    "faiss IDMap2": Case(faiss_index("IDMap2,Flat", FLOATS)),
    "faiss IDMap of IVF": Case(faiss_index("IDMap,IVF4,Flat", FLOATS)),
    "faiss IDMap of HNSW": Case(faiss_index("IDMap2,HNSW8,Flat", FLOATS)),
    "faiss IVF": Case(faiss_index("IVF4,Flat", FLOATS)),
    "faiss IVF, empty lists": Case(faiss_index("IMI2x3,Flat", FLOATS)),
    "faiss IVF on disk": Case(faiss_on_disk),
    "faiss IVF of SQ": Case(faiss_index("IVF4,SQ8", FLOATS, options=LOSSY), is_exact=False),
    "faiss SQ": Case(faiss_numbered("SQ8", FLOATS), ids=NUMBERS, is_exact=False),
    "faiss binary Flat": Case(faiss_numbered("BFlat", BITS), BITS, NUMBERS),
    "faiss binary HNSW": Case(faiss_numbered("BHNSW8", BITS), BITS, NUMBERS),
    "faiss binary IVF": Case(faiss_index("BIVF4", BITS), BITS),
    "faiss binary IDMap": Case(binary_map("IndexBinaryIDMap"), BITS),
    "faiss binary IDMap2": Case(binary_map("IndexBinaryIDMap2"), BITS),
}


@dataclass(frozen=True)
class Built:
    """The source of a case, as a task gets it in its manifest."""

    case: Case
    folder: Path
    group: PartitionGroup

    def segments(self) -> Iterator[tuple[Segment, int]]:
        """Each segment, newly opened, with the live rows that inspecting found."""
        assert self.group.collection is not None
        source = open_source(self.group.source)
        for partition in self.group.partitions:
            for spec in partition.segments:
                yield source.segment(self.group.collection, spec.name), spec.live_rows


def build(case: Case, folder: Path, ids: np.ndarray) -> Built:
    folder.mkdir()
    manifest = json.loads(json.dumps(to_json(case.build(folder, ids))))
    return Built(case, folder, from_json(PartitionGroup, manifest))


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(request.param, tmp_path_factory.mktemp("contract") / "source", request.param.ids)


def whole(segment: Segment) -> VectorBatch:
    return segment.read(0, segment.stored_rows)


def rows(batch: VectorBatch) -> list[tuple[int, bytes]]:
    return list(zip(batch.ids.tolist(), (vector.tobytes() for vector in batch.vectors), strict=True))


def test_all_rows_are_read_bit_for_bit(built: Built) -> None:
    found = [row for segment, _ in built.segments() for row in rows(whole(segment))]
    assert len(found) == len(built.case.rows)
    if built.case.is_exact:
        assert dict(found) == built.case.rows
    else:
        expected = np.stack([np.frombuffer(built.case.rows[row_id], np.float32) for row_id, _ in found])
        assert np.abs(np.stack([np.frombuffer(vector, np.float32) for _, vector in found]) - expected).max() < 0.02


@pytest.mark.parametrize("step", [1, 2, 7, 40])
def test_rows_are_the_same_whatever_the_batch_size(built: Built, step: int) -> None:
    for segment, _ in built.segments():
        parts = [segment.read(*bounds) for bounds in ranges(0, segment.stored_rows, step)]
        assert [row for part in parts for row in rows(part)] == rows(whole(segment))


def test_rows_can_be_read_in_any_order_and_again(built: Built) -> None:
    for segment, _ in built.segments():
        expected = {bounds: rows(segment.read(*bounds)) for bounds in ranges(0, segment.stored_rows, 7)}
        for bounds in reversed(expected):
            assert rows(segment.read(*bounds)) == expected[bounds]


def test_an_empty_range_has_the_same_types_and_dimensions(built: Built) -> None:
    for segment, _ in built.segments():
        batch = segment.read(segment.stored_rows, segment.stored_rows)
        assert len(batch) == 0
        assert batch.vectors.shape == (0, whole(segment).vectors.shape[1])


def test_ids_are_the_same_without_vectors(built: Built) -> None:
    for segment, live_rows in built.segments():
        ids = segment.ids(0, segment.stored_rows)
        assert ids.dtype == np.int64
        assert ids.tolist() == whole(segment).ids.tolist()
        assert live_rows == segment.stored_rows - segment.deleted_rows
        assert len(ids) == live_rows - segment.replayed_deletes


@pytest.mark.parametrize("step", [1, 7, 40])
def test_live_rows_are_found_at_their_positions(built: Built, step: int) -> None:
    for segment, live_rows in built.segments():
        found = 0
        for start, stop in ranges(0, segment.stored_rows, step):
            live = segment.live(start, stop)
            assert (live.dtype, live.shape) == (np.bool_, (stop - start,))
            for offset, row_id in zip(np.flatnonzero(live) + start, segment.ids(start, stop), strict=True):
                assert segment.read(int(offset), int(offset) + 1).ids.tolist() == [row_id]
                found += 1
        assert found == live_rows - segment.replayed_deletes


def test_batches_have_the_types_and_shapes_that_targets_take(built: Built) -> None:
    collection = built.group.collection
    assert collection is not None
    assert collection.metric.is_binary == (built.case.vectors.dtype == np.uint8)
    for segment, _ in built.segments():
        batch = whole(segment)
        assert (batch.ids.dtype, batch.ids.ndim) == (np.int64, 1)
        assert batch.vectors.dtype == (np.uint8 if collection.metric.is_binary else np.float32)
        assert batch.vectors.dtype.isnative
        assert batch.vectors.flags.c_contiguous
        assert batch.vectors.shape == (len(batch), collection.vector_bytes // batch.vectors.itemsize)


def test_the_same_source_has_the_same_fingerprint(built: Built) -> None:
    first = [segment.fingerprint() for segment, _ in built.segments()]
    assert first == [segment.fingerprint() for segment, _ in built.segments()]
    assert all(isinstance(digest, bytes) and digest for digest in first)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_fingerprint_changes_with_the_ids(case: Case, tmp_path: Path) -> None:
    first, second = (build(case, tmp_path / f"{number}", case.ids + number) for number in (0, 1))
    pairs = zip(first.segments(), second.segments(), strict=True)
    assert all(one.fingerprint() != other.fingerprint() for (one, rows), (other, _) in pairs if rows)


def test_units_have_all_rows(built: Built) -> None:
    resolved = resolve_group(replace(built.group, unit_bytes=7 * built.case.vectors[0].nbytes))
    assert sum(partition.live_rows for partition in resolved.partitions) == len(built.case.rows)
    assert len(resolved.units) > 1
    assert max(unit.stored_rows for unit in resolved.units) <= 8
    ids = []
    for unit in resolved.units:
        source = open_source(unit.source)
        for row_slice in unit.slices:
            ids += source.segment(unit.collection, row_slice.segment).read(row_slice.start, row_slice.stop).ids.tolist()
    assert sorted(ids) == sorted(built.case.rows)


@pytest.mark.parametrize("policy", ["error", "remap"])
def test_shares_of_the_rows_make_what_one_task_makes(
    built: Built, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr(shares, "SHARE_ROWS", 25)
    monkeypatch.setattr(key_ranges, "MAX_RANGE_ROWS", 10)
    groups = [from_json(PartitionGroup, to_json(group)) for group in divide_groups([built.group], 1024)]
    assert len(groups) == -(-len(built.case.rows) // 25)
    resolved = [resolve_group(group, RowPolicies(policy)) for group in groups]
    assert join_shares(groups, resolved) == ([built.group], [resolve_group(built.group, RowPolicies(policy))])


def refused_as_changed(unit: LoadUnit, row_slice: Slice) -> str:
    """The message if files changed; the error itself would keep them open."""
    try:
        list(read_slices(unit.source, unit.collection, [row_slice], 7))
    except ChangedSourceError as fault:
        return str(fault)
    return ""


def test_a_file_that_changes_after_its_rows_were_resolved_is_noticed(built: Built) -> None:
    slices = [(unit, row_slice) for unit in resolve_group(built.group).units for row_slice in unit.slices]
    for unit, row_slice in slices:
        for file in open_source(unit.source).segment(unit.collection, row_slice.segment).files:
            before = file.stat()
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**10))
            message = refused_as_changed(unit, row_slice)
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert f"{row_slice.segment} changed" in message
            assert f"{file}. " in message
        assert refused_as_changed(unit, row_slice) == ""


def test_a_source_can_be_open_twice(built: Built) -> None:
    for (one, _), (other, _) in zip(built.segments(), built.segments(), strict=True):
        ranges_of_7 = list(ranges(0, one.stored_rows, 7))
        for bounds, back in zip(ranges_of_7, reversed(ranges_of_7), strict=True):
            assert len(rows(other.read(*back))) <= 7
            assert rows(one.read(*bounds)) == rows(other.read(*bounds))


def test_the_source_is_not_changed(built: Built) -> None:
    before = tree_checksum(built.folder)
    resolve_group(built.group)
    for segment, _ in built.segments():
        whole(segment)
    assert tree_checksum(built.folder) == before


def test_no_file_stays_open(built: Built) -> None:
    def open_files() -> list[str]:
        links = (Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
        return [str(link.readlink()) for link in links if link.is_symlink()]

    def maps() -> str:
        return Path("/proc/self/maps").read_text()

    resolve_group(built.group)
    for segment, _ in built.segments():
        whole(segment)
    del segment
    assert not [name for name in open_files() if name.startswith(str(built.folder))]
    assert str(built.folder) not in maps()
