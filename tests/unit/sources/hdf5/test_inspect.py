"""What inspecting HDF5 files finds, and which notes the report gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import (
    ChangedSourceError,
    ConfigurationError,
    DamagedSourceError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import Metric, PartitionSpec, SegmentSpec, SourceRef
from airflow_provider_milvusdm.rows.divide import divide_groups
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.hdf5.inspect import list_hdf5
from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options
from airflow_provider_milvusdm.storage.file_version import version_of
from tests.support.hdf5_inputs import inspect, write_hdf5
from tests.support.reading import assert_in_order, read_rows

FLOATS = np.arange(24, dtype=np.float32).reshape(6, 4)
BITS = np.arange(24, dtype=np.uint8).reshape(6, 4)
IDS = np.arange(6) + 100


def ids_of(group: PartitionGroup) -> list[int]:
    [rows] = read_rows(resolve_group(group).units).values()
    return [row_id for row_id, _ in rows]


def test_a_folder_is_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.h5", "a.hdf5", "C.H5", "notes.txt", "d.h5.part", ".h5", "._b.h5", ".hidden.hdf5"):
        (tmp_path / name).touch()
    (tmp_path / "folder.h5").mkdir()
    assert [path.name for path in list_hdf5(tmp_path)] == ["C.H5", "a.hdf5", "b.h5"]


def test_a_broken_link_in_a_folder_is_not_ignored(tmp_path: Path) -> None:
    """A network share may not be mounted: its rows would be missing."""
    write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    (tmp_path / "b.h5").symlink_to(tmp_path / "not mounted")
    with pytest.raises(SourceNotFoundError, match=r"No HDF5 file: .*b\.h5"):
        inspect(list_hdf5(tmp_path))


def test_a_name_that_no_manifest_can_hold_is_refused_before_it_is_passed_on(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    (tmp_path / "a.h5").rename(tmp_path / "\udcff.h5")  # the byte 255
    with pytest.raises(UnsupportedSourceError, match=r"is not UTF-8: .*\\udcff\.h5") as caught:
        inspect(list_hdf5(tmp_path))
    assert str(caught.value).isascii()


def test_a_missing_folder_and_one_without_hdf5_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"No HDF5 file in the folder: .* Expected \*.h5 or \*.hdf5"):
        list_hdf5(tmp_path)
    with pytest.raises(SourceNotFoundError, match="No folder of HDF5 files"):
        list_hdf5(tmp_path / "gone")


def test_files_become_one_partition_with_a_segment_per_file(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    names = ["b.h5", "more/a.h5", "empty.h5"]
    paths = [
        write_hdf5(tmp_path / name, {"embeddings": FLOATS[:rows], "ids": IDS[:rows]})
        for name, rows in zip(names, (6, 2, 0), strict=True)
    ]
    group = inspect(paths, name="faces", partition="2021", metric=Metric.L2)
    assert group.collection is not None
    assert (group.name, group.collection.name, group.collection.dimension) == ("faces", "faces", 4)
    versions = [version_of([path]) for path in paths]
    segments = tuple(map(SegmentSpec, names, (6, 2, 0), versions))
    assert group.partitions == (PartitionSpec("2021", segments),)
    options = {"embeddings": "embeddings", "ids_dataset": "ids", "ids": "dataset"}
    assert group.source == SourceRef("hdf5", str(tmp_path), options)
    assert group.notes == ()


@pytest.mark.parametrize("rows", [6, 5])
@pytest.mark.parametrize("shares", [1, 2])
def test_a_file_that_is_replaced_before_its_rows_are_resolved_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, shares: int
) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": IDS})
    monkeypatch.setattr("airflow_provider_milvusdm.model.shares.SHARE_ROWS", 6 // shares)
    groups = divide_groups([inspect(path)], 1024)
    assert len(groups) == shares
    write_hdf5(tmp_path / "b.h5", {"embeddings": FLOATS[:rows] + 1, "ids": IDS[:rows]}).replace(path)
    with pytest.raises(ChangedSourceError, match=r"Segment a\.h5 changed since an earlier task read it: .*/a\.h5\."):
        resolve_group(groups[0])


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": IDS})
    monkeypatch.chdir(tmp_path)
    group = inspect(Path("a.h5"))
    monkeypatch.chdir("/")
    assert ids_of(group) == IDS.tolist()


def test_units_are_large_enough_for_the_limit_of_tasks(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": np.zeros((1000, 4), np.float32)})
    assert inspect(path, unit_bytes=1600).unit_bytes == 1600
    group = inspect(path, unit_bytes=16, max_tasks=11)
    assert group.unit_bytes == 1600
    assert len(resolve_group(group).units) == 10


@pytest.mark.parametrize(("data", "dimension"), [(FLOATS, 4), (BITS, 32), (BITS.view("S4").ravel(), 32)])
def test_the_dimension_is_checked_against_the_data(tmp_path: Path, data: np.ndarray, dimension: int) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": data})
    group = inspect(path, dimension=dimension)
    assert group.collection is not None
    assert group.collection.dimension == dimension
    with pytest.raises(ConfigurationError) as fault:
        inspect(path, dimension=100)
    assert_in_order(str(fault.value), [str(path), "dimension 100", f"vectors of dimension {dimension}"])


@pytest.mark.parametrize(
    ("distance", "data", "metric"),
    [
        ("angular", FLOATS, Metric.COSINE),
        ("Euclidean", FLOATS, Metric.L2),
        (b"euclidean", FLOATS, Metric.L2),
        (np.bytes_(b"dot"), FLOATS, Metric.IP),
        ("ip", FLOATS, Metric.IP),
        ("hamming", BITS, Metric.HAMMING),
        ("jaccard", BITS, Metric.JACCARD),
    ],
)
def test_the_attribute_distance_proposes_the_metric(
    tmp_path: Path, distance: Any, data: np.ndarray, metric: Metric
) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"train": data}, attributes={"distance": distance})
    group = inspect(path, options=Hdf5Options(embeddings="/train"))
    assert group.collection is not None
    assert group.collection.metric == metric
    assert group.notes[0].startswith(f"metric {metric}: proposed by the attribute distance: ")


@pytest.mark.parametrize(("data", "metric"), [(FLOATS, Metric.L2), (BITS, Metric.HAMMING)])
def test_without_a_metric_there_is_a_default_and_a_note(tmp_path: Path, data: np.ndarray, metric: Metric) -> None:
    group = inspect(write_hdf5(tmp_path / "a.h5", {"embeddings": data, "ids": IDS}))
    assert group.collection is not None
    assert group.collection.metric == metric
    assert group.notes[0] == f"metric {metric}: none was chosen, and the files propose none"


def test_the_chosen_metric_wins_over_the_attribute(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": IDS}, attributes={"distance": "angular"})
    assert inspect(path, metric=Metric.COSINE).notes == ()
    group = inspect(path, metric=Metric.IP)
    assert group.collection is not None
    assert group.collection.metric == Metric.IP
    assert group.notes == ("metric IP was chosen; the attribute distance says angular",)


@pytest.mark.parametrize(
    ("data", "metric", "distance", "found"),
    [
        (FLOATS, Metric.HAMMING, "", "found HAMMING"),
        (BITS, Metric.L2, "", "found L2"),
        (BITS, None, "angular", "found COSINE, from the attribute distance: 'angular'"),
        (FLOATS, None, "manhattan", "found 'manhattan'"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(
    tmp_path: Path, data: np.ndarray, metric: Metric | None, distance: str, found: str
) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": data}, attributes={"distance": distance})
    with pytest.raises(ConfigurationError) as fault:
        inspect(path, metric=metric)
    assert found in str(fault.value)


def test_files_that_propose_different_metrics_are_refused(tmp_path: Path) -> None:
    paths = [
        write_hdf5(tmp_path / f"{distance}.h5", {"embeddings": FLOATS}, attributes={"distance": distance})
        for distance in ("angular", "euclidean")
    ]
    with pytest.raises(ConfigurationError, match="found 'angular', 'euclidean'"):
        inspect(paths)
    assert inspect(paths, metric=Metric.L2).notes[0] == "metric L2 was chosen; the attribute distance says angular"


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (FLOATS.astype(np.float16), "float16 was converted to float32, exactly"),
        (FLOATS.astype(np.float64), "float64 was rounded to float32, which Milvus holds"),
        (BITS[:, :1].repeat(8, axis=1) > 3, "bool was packed into bits, the first column is the highest bit"),
    ],
)
def test_a_conversion_is_noted_once(tmp_path: Path, data: np.ndarray, note: str) -> None:
    paths = [write_hdf5(tmp_path / name, {"embeddings": data, "ids": IDS}) for name in ("a.h5", "b.h5")]
    notes = inspect(paths).notes
    assert len(notes) == 2  # this one and the metric
    assert notes[1].startswith(note)


def test_files_of_floats_of_different_widths_can_be_mixed(tmp_path: Path) -> None:
    paths = [write_hdf5(tmp_path / f"{kind}.h5", {"embeddings": FLOATS.astype(kind)}) for kind in ("f4", "f8", "f2")]
    assert len(inspect(paths).notes) == 4


def test_rows_without_ids_are_numbered_over_all_files(tmp_path: Path) -> None:
    paths = [write_hdf5(tmp_path / name, {"embeddings": FLOATS}) for name in ("b.h5", "a.h5")]
    group = inspect(paths, id_offset=-3)
    assert group.source.options["ids"] == "row_number"
    assert [segment.name for segment in group.partitions[0].segments] == ["b.h5@-3", "a.h5@3"]
    assert ids_of(group) == list(range(-3, 9))
    assert group.notes[-1] == "ids: no dataset 'ids': rows are numbered from -3"


def test_auto_leaves_the_ids_to_the_target(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    group = inspect(path, options=Hdf5Options(ids="auto"))
    assert group.source.options["ids"] == "auto"
    assert ids_of(group) == list(range(6))
    assert group.notes[-1] == "ids: no dataset 'ids': the target generates them"


def test_existing_ids_are_kept(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": IDS})
    group = inspect(path, options=Hdf5Options(ids="auto"))
    assert group.source.options["ids"] == "dataset"
    assert ids_of(group) == IDS.tolist()
    assert group.notes[-1] == "ids: from dataset 'ids' (they are kept: auto is for rows without ids)"


def test_ids_are_ignored_if_no_dataset_is_named(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": IDS})
    group = inspect(path, options=Hdf5Options(ids_dataset=""))
    assert ids_of(group) == list(range(6))
    assert group.notes[-1] == "ids: no ids dataset was asked for: rows are numbered from 0"


@pytest.mark.parametrize(
    "options",
    [Hdf5Options(ids="dataset", ids_dataset="ids"), Hdf5Options(ids_dataset="ids"), Hdf5Options(ids_dataset="keys")],
)
def test_requested_ids_must_exist(tmp_path: Path, options: Hdf5Options) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    with pytest.raises(SourceNotFoundError) as fault:
        inspect(path, options=options)
    assert_in_order(str(fault.value), [f"No dataset {options.ids_dataset!r}", str(path), "found 'embeddings'"])


@pytest.mark.parametrize("options", [Hdf5Options(), Hdf5Options(ids_dataset="ids?")])
def test_the_default_ids_dataset_is_optional(tmp_path: Path, options: Hdf5Options) -> None:
    assert ids_of(inspect(write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS}), options=options)) == list(range(6))
    path = write_hdf5(tmp_path / "b.h5", {"embeddings": FLOATS, "ids": IDS})
    assert ids_of(inspect(path, options=options)) == IDS.tolist()


@pytest.mark.parametrize("made_as", ["a group", "a type", "a link to nothing"])
def test_a_group_called_ids_is_refused(tmp_path: Path, made_as: str) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    made = {"a group": {}, "a type": np.dtype("i8"), "a link to nothing": h5py.SoftLink("/keys")}[made_as]
    with h5py.File(path, "a") as file:
        if made_as == "a group":
            file.create_group("ids")
        else:
            file["ids"] = made
    with pytest.raises(SourceNotFoundError) as fault:
        inspect(path)
    assert_in_order(str(fault.value), ["No dataset 'ids'", str(path), f"found {made_as}", "ids_dataset: null"])
    assert ids_of(inspect(path, options=Hdf5Options(ids_dataset=None))) == list(range(6))


def test_a_note_says_that_bytes_were_read_as_bits(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": BITS, "ids": IDS})
    assert "uint8 was read as bits: 4 columns are 32 dimensions" in inspect(path, metric=Metric.HAMMING).notes


ODD_ATTRIBUTES: dict[str, Any] = {
    "a number": 5,
    "a float": 0.5,
    "texts": ["angular", "angular"],
    "numbers": np.arange(3),
    "nothing": h5py.Empty("S1"),
    "a compound": np.zeros((), [("a", "f4"), ("b", "i4")])[()],
    "an opaque": np.void(b"angular"),
    "a bool": True,
    "bytes that are no UTF-8": np.bytes_(b"\xffangular"),
}


def write_odd_attribute(path: Path, kind: str) -> Path:
    """A file whose attribute `distance` is not text."""
    write_hdf5(path, {"embeddings": FLOATS})
    own_types = {"a bit field": h5py.h5t.STD_B8LE, "a time": h5py.h5t.UNIX_D32LE}
    with h5py.File(path, "a") as file:
        if kind in own_types:
            h5py.h5a.create(file.id, b"distance", own_types[kind], h5py.h5s.create(h5py.h5s.SCALAR))
        elif kind == "a reference":
            file.attrs["distance"] = file["embeddings"].ref
        elif kind == "text that is no UTF-8":
            file.attrs.create("distance", b"angular\xff", dtype=h5py.string_dtype("utf-8"))
        else:
            file.attrs["distance"] = ODD_ATTRIBUTES[kind]
    return path


@pytest.mark.parametrize("kind", [*ODD_ATTRIBUTES, "text that is no UTF-8", "a bit field", "a time", "a reference"])
def test_an_attribute_of_an_odd_type_proposes_no_metric(tmp_path: Path, kind: str) -> None:
    path = write_odd_attribute(tmp_path / "a.h5", kind)
    with pytest.raises(ConfigurationError) as fault:
        inspect(path)
    text = str(fault.value)
    assert_in_order(text, ["propose no metric", "Expected the same attribute distance", "found", "metric_type"])
    group = inspect(path, metric=Metric.IP)
    assert any(note.startswith("metric IP was chosen; the attribute distance says") for note in group.notes)
    json.dumps(group.notes, ensure_ascii=False).encode()


def test_ids_from_a_dataset_need_its_name(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    with pytest.raises(ConfigurationError, match="ids: row_number"):
        inspect(path, options=Hdf5Options(ids="dataset", ids_dataset=""))


def test_row_numbers_must_fit_into_ids(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    last = 2**63 - 2
    assert ids_of(inspect(path, id_offset=last - 5))[-1] == last
    for offset in (last - 4, -(2**63) - 1):
        with pytest.raises(ConfigurationError, match=f"found {offset}"):
            inspect(path, id_offset=offset)


def test_no_file_and_a_file_named_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No HDF5 file is named"):
        inspect([])
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    link = tmp_path / "b.h5"
    link.symlink_to(path)
    with pytest.raises(ConfigurationError, match="A file is named twice"):
        inspect([path, link])


@pytest.mark.parametrize(
    ("first", "second", "expected", "found"),
    [
        ({"embeddings": FLOATS}, {"embeddings": FLOATS[:, :3]}, "float vectors of dimension 4", "dimension 3"),
        ({"embeddings": FLOATS}, {"embeddings": BITS[:, :3]}, "float vectors of dimension 4", "binary vectors of"),
        ({"embeddings": FLOATS, "ids": IDS}, {"embeddings": FLOATS}, "Expected ids, as in", "no ids"),
        ({"embeddings": FLOATS}, {"embeddings": FLOATS, "ids": IDS}, "Expected no ids, as in", "found ids"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], expected: str, found: str
) -> None:
    paths = [write_hdf5(tmp_path / "a.h5", first), write_hdf5(tmp_path / "b.h5", second)]
    with pytest.raises(DamagedSourceError) as fault:
        inspect(paths)
    assert_in_order(str(fault.value), [str(paths[1]), expected, str(paths[0]), found])


def test_all_unreadable_files_are_in_one_message(tmp_path: Path) -> None:
    good = write_hdf5(tmp_path / "good.h5", {"embeddings": FLOATS})
    bad = write_hdf5(tmp_path / "bad.h5", {"vectors": FLOATS})
    with pytest.raises(SourceError) as fault:
        inspect([good, bad, tmp_path / "gone.h5"])
    text = str(fault.value)
    assert_in_order(text, ["2 files can't be read", f"No dataset 'embeddings': {bad}", "No HDF5 file", "gone.h5"])
    assert str(good) not in text
