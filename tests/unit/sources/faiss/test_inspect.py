"""What inspecting a Faiss index finds: the shape of its rows, metric, ids and losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import (
    ChangedSourceError,
    ConfigurationError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import Metric, PartitionSpec, SegmentSpec, SourceRef
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions
from airflow_provider_milvusdm.storage.file_version import version_of
from tests.support.faiss_inputs import inspect, make_index, write_index
from tests.support.reading import assert_in_order, read_rows

ROWS = 300
FLOATS = np.random.default_rng(1).standard_normal((ROWS, 16)).astype(np.float32)
BITS = np.random.default_rng(2).integers(0, 256, (ROWS, 4), np.uint8)
IDS = np.arange(ROWS) * 3 - 7
LOSSY = FaissOptions(allow_lossy=True)


def made(folder: Path, kind: str, ids: np.ndarray | None = None, vectors: np.ndarray = FLOATS, **metric: Any) -> Path:
    return write_index(folder / "a.index", make_index(kind, vectors, ids, **metric))


def read(group: PartitionGroup) -> VectorBatch:
    """All rows, in the order of their ids."""
    [rows] = read_rows(resolve_group(group).units).values()
    rows.sort()
    vectors = [np.frombuffer(vector, np.float32) for _, vector in rows]
    return VectorBatch(np.array([row_id for row_id, _ in rows]), np.stack(vectors))


def test_an_index_becomes_one_partition_of_one_segment(tmp_path: Path) -> None:
    path = made(tmp_path, "IVF4,Flat", IDS)
    group = inspect(path, name="faces", partition="2021", metric=Metric.COSINE, dimension=16)
    assert group.collection is not None
    assert (group.collection.name, group.collection.dimension) == ("faces", 16)
    assert group.partitions == (PartitionSpec("2021", (SegmentSpec("a.index", ROWS, version_of([path])),)),)
    assert group.source == SourceRef("faiss", str(tmp_path), {"ids": "index", "allow_lossy": False})
    assert group.notes == ("metric COSINE was chosen; the index's is L2",)


@pytest.mark.parametrize("rows", [ROWS, ROWS - 1])
def test_an_index_that_is_replaced_before_its_rows_are_resolved_is_refused(tmp_path: Path, rows: int) -> None:
    path = made(tmp_path, "Flat")
    group = inspect(path)
    (tmp_path / "new").mkdir()
    made(tmp_path / "new", "Flat", vectors=FLOATS[:rows] + 1).replace(path)
    with pytest.raises(ChangedSourceError, match=r"Segment a\.index@0 changed since an earlier task read it: "):
        resolve_group(group)


def test_units_are_large_enough_for_the_limit_of_tasks(tmp_path: Path) -> None:
    path = made(tmp_path, "Flat")
    group = inspect(path, unit_bytes=64, max_tasks=11)
    assert group.unit_bytes == ROWS * 64 // 10
    assert len(resolve_group(group).units) == 10


def test_the_dimension_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Expected dimension 256, as collection_parameter says, found 16"):
        inspect(made(tmp_path, "Flat"), dimension=256)
    binary = write_index(tmp_path / "b.index", make_index("BFlat", BITS))
    assert inspect(binary, dimension=32).name == "news"


@pytest.mark.parametrize(
    ("kind", "vectors", "number", "metric"),
    [
        ("Flat", FLOATS, faiss.METRIC_L2, Metric.L2),
        ("IDMap,HNSW8,Flat", FLOATS, faiss.METRIC_INNER_PRODUCT, Metric.IP),
        ("Pad20,IVF4,Flat", FLOATS, faiss.METRIC_INNER_PRODUCT, Metric.IP),
        ("BFlat", BITS, faiss.METRIC_L2, Metric.HAMMING),
        ("BIVF4", BITS, faiss.METRIC_L2, Metric.HAMMING),
    ],
)
def test_the_metric_is_that_of_the_index(
    tmp_path: Path, kind: str, vectors: np.ndarray, number: int, metric: Metric
) -> None:
    group = inspect(made(tmp_path, kind, IDS if "IDMap" in kind else None, vectors, metric=number))
    assert group.collection is not None
    assert group.collection.metric == metric
    assert not [note for note in group.notes if note.startswith("metric")]


def test_a_metric_that_milvus_does_not_have_is_refused_unless_another_is_chosen(tmp_path: Path) -> None:
    path = made(tmp_path, "Flat", metric=faiss.METRIC_L1)
    with pytest.raises(ConfigurationError, match="found Faiss metric METRIC_L1"):
        inspect(path)
    assert inspect(path, metric=Metric.L2).notes[0] == "metric L2 was chosen; the index's is METRIC_L1"


@pytest.mark.parametrize(("kind", "vectors", "metric"), [("Flat", FLOATS, "HAMMING"), ("BFlat", BITS, "COSINE")])
def test_a_metric_that_does_not_fit_is_refused(tmp_path: Path, kind: str, vectors: np.ndarray, metric: str) -> None:
    with pytest.raises(ConfigurationError, match=f"found {metric}"):
        inspect(made(tmp_path, kind, None, vectors), metric=Metric(metric))


@pytest.mark.parametrize(
    ("kind", "vectors", "index_type", "params"),
    [
        ("Flat", FLOATS, "FLAT", {}),
        ("IVF4,Flat", FLOATS, "IVF_FLAT", {"nlist": 4}),
        ("IVF4,SQ8", FLOATS, "IVF_SQ8", {"nlist": 4}),
        ("IVF4,SQfp16", FLOATS, "IVF_FLAT", {"nlist": 4}),
        ("IVF4,PQ8x4", FLOATS, "IVF_PQ", {"nlist": 4, "m": 8}),
        ("RR16,IVF4,SQ8,RFlat", FLOATS, "IVF_SQ8", {"nlist": 4}),
        ("HNSW12,Flat", FLOATS, "HNSW", {"M": 12, "efConstruction": 40}),
        ("NSG8,Flat", FLOATS, "RNSG", {}),
        ("PQ8x4", FLOATS, "FLAT", {}),
        ("BFlat", BITS, "BIN_FLAT", {}),
        ("BIVF4", BITS, "BIN_IVF_FLAT", {"nlist": 4}),
    ],
)
def test_the_index_type_is_carried_over(
    tmp_path: Path, kind: str, vectors: np.ndarray, index_type: str, params: dict[str, int]
) -> None:
    group = inspect(made(tmp_path, kind, None, vectors), options=LOSSY)
    assert group.collection is not None
    assert (group.collection.index_type, group.collection.index_params) == (index_type, params)


def test_the_index_type_inside_an_id_map_is_found(tmp_path: Path) -> None:
    index = faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(32))
    index.add_with_ids(BITS, IDS)
    group = inspect(write_index(tmp_path / "a.index", index))
    assert group.collection is not None
    assert group.collection.index_type == "BIN_FLAT"


@pytest.mark.parametrize(
    ("kind", "ids", "expected", "note"),
    [
        ("Flat", None, np.arange(ROWS) + 1000, "ids: the index has none: rows are numbered from 1000"),
        ("IDMap,Flat", IDS, IDS, "ids: the ids in the index are kept (id_offset is for rows without ids)"),
        ("IVF4,Flat", None, np.arange(ROWS), "ids: the ids in the index are kept (id_offset is for rows without ids)"),
        ("IDMap2,IVF4,Flat", IDS, IDS, "ids: the ids in the index are kept (id_offset is for rows without ids)"),
    ],
)
def test_ids_are_those_of_the_index_or_row_numbers(
    tmp_path: Path, kind: str, ids: np.ndarray | None, expected: np.ndarray, note: str
) -> None:
    group = inspect(made(tmp_path, kind, ids), id_offset=1000)
    assert group.notes == (note,)
    batch = read(group)
    assert batch.ids.tolist() == expected.tolist()
    assert (batch.vectors == FLOATS).all()


@pytest.mark.parametrize(("kind", "carried"), [("Flat", "auto"), ("IVF4,Flat", "index")])
def test_auto_is_for_an_index_without_ids(tmp_path: Path, kind: str, carried: str) -> None:
    group = inspect(made(tmp_path, kind), options=FaissOptions(ids="auto"))
    assert group.source.options["ids"] == carried
    assert "auto" in group.notes[-1] or "the target generates them" in group.notes[-1]


def test_requested_ids_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="A Faiss index without ids"):
        inspect(made(tmp_path, "HNSW8,Flat"), options=FaissOptions(ids="index"))
    with pytest.raises(ConfigurationError, match="id_offset from"):
        inspect(made(tmp_path, "Flat"), id_offset=2**63 - 100)


@pytest.mark.parametrize("kind", ["RR16", "RR24", "PCA16", "PCAR16", "PCAW16", "PCAWR16"])
@pytest.mark.parametrize("inner", ["Flat", "IVF4,Flat", "HNSW8,Flat"])
def test_a_transform_is_inverted(tmp_path: Path, kind: str, inner: str) -> None:
    vectors = FLOATS * np.linspace(1, 20, 16, dtype=np.float32) + 3
    group = inspect(made(tmp_path, f"{kind},{inner}", None, vectors))
    batch = read(group)
    assert np.abs(batch.vectors - vectors).max() < 1e-4
    assert [note for note in group.notes if note.endswith("was inverted, up to rounding")]


def test_transforms_are_inverted_in_their_order(tmp_path: Path) -> None:
    vectors = FLOATS + 5
    path = made(tmp_path, "PCAR16,Pad20,RR20,Flat", None, vectors)
    assert np.abs(read(inspect(path)).vectors - vectors).max() < 1e-5


def with_transform(path: Path, transform: Any, vectors: np.ndarray = FLOATS) -> Path:
    """A flat index with a transform in front."""
    index = faiss.IndexPreTransform(transform, faiss.IndexFlatL2(transform.d_out))
    index.train(vectors)
    index.add(vectors)
    return write_index(path, index)


@pytest.mark.parametrize("size", [16, 24])
def test_an_optimized_rotation_and_a_shift_are_inverted(tmp_path: Path, size: int) -> None:
    rotation = faiss.OPQMatrix(16, 4, size)
    rotation.niter = 2
    for number, transform in enumerate((rotation, faiss.CenteringTransform(16))):
        batch = read(inspect(with_transform(tmp_path / f"{number}.index", transform, FLOATS + 2)))
        assert np.abs(batch.vectors - FLOATS - 2).max() < 1e-5


def test_dimensions_in_another_order_are_put_back(tmp_path: Path) -> None:
    transform = faiss.RemapDimensionsTransform(16, 16, True)
    faiss.copy_array_to_vector(np.roll(np.arange(16, dtype=np.int32), 5), transform.map)
    group = inspect(with_transform(tmp_path / "a.index", transform))
    assert not [note for note in group.notes if "Remap" in note]
    assert (read(group).vectors == FLOATS).all()


def test_dropped_dimensions_are_a_loss(tmp_path: Path) -> None:
    path = with_transform(tmp_path / "a.index", faiss.RemapDimensionsTransform(16, 8, False))
    loss = "RemapDimensionsTransform: 8 of 16 dimensions are not stored"
    with pytest.raises(UnsupportedSourceError, match=loss):
        inspect(path)
    group = inspect(path, options=LOSSY)
    assert loss in group.notes
    assert (read(group).vectors == np.hstack([FLOATS[:, :8], np.zeros((ROWS, 8))])).all()


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("SQ8", "IndexScalarQuantizer keeps a code of 16 bytes per row"),
        ("SQfp16", "IndexScalarQuantizer keeps a code of 32 bytes per row"),
        ("PQ8x4", "IndexPQ keeps a code of 4 bytes per row"),
        ("RQ4x4", "IndexResidualQuantizer keeps a code of"),
        ("LSQ4x4", "IndexLocalSearchQuantizer keeps a code of"),
        ("IVF4,PQ8x4", "IndexIVFPQ keeps a code of 4 bytes per row"),
        ("IVF4,SQ8", "IndexIVFScalarQuantizer keeps a code of 16 bytes per row"),
        ("IVF4,RQ4x4", "IndexIVFResidualQuantizer keeps a code of"),
        ("HNSW8,SQ8", "IndexScalarQuantizer keeps a code of 16 bytes per row"),
        ("RR16,IVF4,SQ8", "IndexIVFScalarQuantizer keeps a code of 16 bytes per row"),
        ("Flat,Refine(SQ8)", "IndexScalarQuantizer keeps a code of 16 bytes per row"),
        ("PCA8,Flat", "PCAMatrix: 16 dimensions became 8, 8 are not stored"),
        ("PCAW8,Flat", "PCAMatrix: 16 dimensions became 8, 8 are not stored"),
        ("L2norm,Flat", "NormalizationTransform: vectors have length 1, their original lengths are not stored"),
    ],
)
def test_a_loss_is_refused_or_stated(tmp_path: Path, kind: str, loss: str) -> None:
    path = made(tmp_path, kind)
    with pytest.raises(UnsupportedSourceError) as fault:
        inspect(path)
    assert_in_order(str(fault.value), ["does not store the original vectors", str(path), loss, "allow_lossy: true"])
    group = inspect(path, options=LOSSY)
    assert [note for note in group.notes if note.startswith(loss)]
    batch = read(group)
    lengths = (batch.vectors**2).sum(axis=1)
    near = FLOATS / np.sqrt((FLOATS**2).sum(axis=1, keepdims=True)) if "L2norm" in kind else FLOATS
    assert ((batch.vectors - near) ** 2).mean() < (near**2).mean()
    assert (lengths > 0).all()


@pytest.mark.parametrize("kind", ["SQ8", "IVF4,SQ8", "IVF4,PQ8x4", "IVF4,RQ4x4"])
def test_codes_are_decoded_as_faiss_reconstructs_them(tmp_path: Path, kind: str) -> None:
    index = make_index(kind, FLOATS)
    if isinstance(index, faiss.IndexIVF):
        index.make_direct_map()
    batch = read(inspect(write_index(tmp_path / "a.index", index), options=LOSSY))
    assert (batch.vectors == index.reconstruct_n(0, ROWS)).all()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("IVF4,FlatDedup", "IndexIVFFlatDedup"),
        ("IVF4,PQ8x4fs", "IndexIVFPQFastScan"),
        ("PQ8x4fs", "IndexPQFastScan"),
        ("IVF4,PQ4+4", "IndexIVFPQR"),
        ("LSH", "IndexLSH"),
        ("RaBitQ", "IndexRaBitQ"),
        ("ITQ16,Flat", "ITQTransform"),
        ("FlatL2Panorama4", "IndexFlatL2Panorama"),
        ("IVF4,FlatPanorama4", "IndexIVFFlatPanorama"),
        ("IVF4,RaBitQ", "IndexIVFRaBitQ"),
        ("ZnLattice2x2_4", "'idxl->ntotal == 0' failed: IndexLattice"),
    ],
)
@pytest.mark.parametrize("rows", [ROWS, 512])
def test_an_unsupported_type_is_refused_by_name(tmp_path: Path, kind: str, name: str, rows: int) -> None:
    """Panorama stores rows in batches of 512: a full one and a smaller one."""
    path = made(tmp_path, kind, vectors=np.resize(FLOATS, (rows, FLOATS.shape[1])))
    with pytest.raises(UnsupportedSourceError) as fault:
        inspect(path, options=LOSSY)
    assert_in_order(str(fault.value), [str(path), f"found {name}", "Write the original vectors to an HDF5 file"])


def test_an_unsupported_refine_index_is_refused(tmp_path: Path) -> None:
    base, refined = faiss.IndexFlatL2(16), faiss.IndexFlatL2Panorama(16, 4)
    index = faiss.IndexRefinePanorama(base, refined)
    index.add(FLOATS)
    with pytest.raises(UnsupportedSourceError, match="found IndexFlatL2Panorama"):
        inspect(write_index(tmp_path / "a.index", index), options=LOSSY)


@pytest.mark.parametrize("kind", ["HNSW8_FlatPanorama4", "IVF4_HNSW8,Flat", "IMI2x8,Flat"])
def test_an_index_that_differs_only_in_how_it_searches_is_read(tmp_path: Path, kind: str) -> None:
    """Nearly all of 65,536 lists are empty and take no byte in the file."""
    index = make_index(kind, np.random.default_rng(3).random((1500, 16), np.float32))
    index.reset()
    index.add(FLOATS)
    batch = read(inspect(write_index(tmp_path / "a.index", index)))
    assert batch.vectors[np.argsort(batch.ids)].tobytes() == FLOATS.tobytes()


def test_binary_hashes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSourceError, match="found IndexBinaryHash"):
        inspect(made(tmp_path, "BHash8", None, BITS))


def test_a_matrix_that_cannot_be_inverted_is_refused(tmp_path: Path) -> None:
    transform = faiss.LinearTransform(16, 16)
    matrix = np.eye(16, dtype=np.float32)
    matrix[3] = matrix[4]
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    path = with_transform(tmp_path / "a.index", transform)
    with pytest.raises(UnsupportedSourceError) as fault:
        inspect(path, options=LOSSY)
    assert_in_order(str(fault.value), ["can't be inverted", str(path), "an invertible matrix", "from 0"])


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.index", tmp_path):
        with pytest.raises(SourceNotFoundError, match="No Faiss index file"):
            inspect(path)


@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat", "IDMap,Flat"])
def test_an_index_without_rows_is_read(tmp_path: Path, kind: str) -> None:
    index = make_index(kind, FLOATS, None if kind != "IDMap,Flat" else IDS)
    index.reset()
    resolved = resolve_group(inspect(write_index(tmp_path / "a.index", index)))
    assert (resolved.partitions[0].live_rows, resolved.units) == (0, ())
