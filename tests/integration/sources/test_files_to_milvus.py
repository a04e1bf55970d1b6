"""HDF5 files and Faiss indexes into each kind of target, row for row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import faiss
import h5py
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.config.validation import read_params
from airflow_provider_milvusdm.exceptions import SourceError, TargetError
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import Metric
from airflow_provider_milvusdm.report import FAILED, PLANNED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions
from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options
from tests.support.chain import GroupsChain
from tests.support.collections_2x import Rows, called, stored
from tests.support.directories import random_vectors
from tests.support.faiss_inputs import inspect as inspect_faiss
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.hdf5_inputs import write_hdf5

ROWS, DIMENSION = 3000, 8
LOWEST_ID, HIGHEST_ID = -(2**63), 2**63 - 2
IDS = np.array([LOWEST_ID, -1, 0, HIGHEST_ID, *range(10, ROWS + 6)])
VECTORS = random_vectors(ROWS, 1)
BITS = np.random.default_rng(2).integers(0, 256, (ROWS, 64), np.uint8)


def migrate(client: MilvusClient, group: PartitionGroup, mode: str = "skip", **options: Any) -> CollectionReport:
    """All steps; `settings` is the block `target`."""
    settings = read_params(TargetSettings, options.pop("settings", {}))
    return GroupsChain([group], client, settings).run(mode=mode, **options)["news"]


def rows(ids: Iterable[int], vectors: np.ndarray) -> Rows:
    return {int(row_id): vector.tobytes() for row_id, vector in zip(ids, vectors, strict=True)}


def check_exact(client: MilvusClient, report: CollectionReport, expected: Rows) -> None:
    assert (report.status, report.faults) == (VERIFIED, ())
    assert stored(client, "news") == {"_default": expected}
    assert [(part.live, part.loaded, part.counted) for part in report.partitions] == [(len(expected),) * 3]


@pytest.mark.parametrize(
    ("target_uri", "storage"),
    [
        ("lite", {}),
        ("lite", {"compression": "gzip", "chunks": (100, 4)}),
        ("lite", {"compression": "lzf", "shuffle": True}),
        ("server", {}),
    ],
    indirect=["target_uri"],
    ids=["lite-contiguous", "lite-gzip", "lite-lzf", "server-contiguous"],
)
def test_float32_arrives_bit_for_bit(client, tmp_path, storage):
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS, "ids": IDS}, **storage)
    check_exact(client, migrate(client, inspect_hdf5(path)), rows(IDS, VECTORS))


def test_float64_is_converted_and_the_report_says_so(client, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS.astype("f8") / 3, "ids": IDS})
    report = migrate(client, inspect_hdf5(path))
    check_exact(client, report, rows(IDS, (VECTORS.astype("f8") / 3).astype("f4")))
    assert "float64" in "; ".join(report.notes)


def test_rows_are_numbered_over_several_files(client, tmp_path):
    parts = np.split(VECTORS, [1000, 1001])
    paths = [write_hdf5(tmp_path / f"{n}.h5", {"embeddings": part}) for n, part in enumerate(parts)]
    report = migrate(client, inspect_hdf5(paths, id_offset=-5, unit_bytes=40_000))
    check_exact(client, report, rows(range(-5, ROWS - 5), VECTORS))


def test_numbered_rows_that_are_loaded_again_are_the_same_rows(client, tmp_path):
    group = inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS}))
    chain = GroupsChain([group], client)
    plans = chain.plan()
    created, _ = chain.create(plans)
    for _ in range(2):
        chain.load(plans, created)
        chain.stores.clear()
        created, _ = chain.create(plans)
    assert created[0].action == "resumed"
    check_exact(client, migrate(client, group), rows(range(ROWS), VECTORS))


@pytest.mark.parametrize("kind", ["hdf5", "faiss"])
def test_existing_row_numbers_are_refused_with_a_hint_at_id_offset(lite_client, tmp_path, kind):
    def numbered(first: int) -> PartitionGroup:
        if kind == "hdf5":
            return inspect_hdf5(write_hdf5(tmp_path / "b.h5", {"embeddings": VECTORS[5:]}), id_offset=first)
        return inspect_faiss(write_index(tmp_path / "b.index", make_index("Flat", VECTORS[5:])), id_offset=first)

    migrate(lite_client, inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS[:5]})))
    [fault] = migrate(lite_client, numbered(0), "append").faults
    assert "ids to append are in the target already" in fault.lower()
    assert "set id_offset" in fault
    assert "overwrite" not in fault
    assert migrate(lite_client, numbered(5), "append").status == VERIFIED
    assert stored(lite_client, "news") == {"_default": rows(range(ROWS), VECTORS)}


@pytest.mark.parametrize("kind", ["hdf5", "faiss"])
def test_a_sync_repairs_the_vectors_of_files(lite_client, tmp_path, kind):
    def write(vectors: np.ndarray) -> PartitionGroup:
        if kind == "hdf5":
            return inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": vectors, "ids": IDS}))
        return inspect_faiss(write_index(tmp_path / "a.index", make_index("IDMap2,Flat", vectors, IDS)))

    migrate(lite_client, write(VECTORS))
    changed = VECTORS.copy()
    changed[[0, 7, -1]] *= 2
    for vectors, repaired in [(VECTORS, 0), (changed, 3), (changed, 0), (VECTORS, 3)]:
        report = migrate(lite_client, write(vectors), "sync", verify="counts")
        assert (report.status, report.notes[-1]) == (VERIFIED, f"0 rows to insert, 0 deleted, {repaired} to repair")
        assert stored(lite_client, "news") == {"_default": rows(IDS, vectors)}


def as_strings(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bits).view(f"S{bits.shape[1]}")[:, 0]


@pytest.mark.parametrize("kind", ["uint8", "S64", "bool"])
def test_binary_vectors_arrive_bit_for_bit_on_a_server(server_client, tmp_path, kind):
    data = {"uint8": BITS, "S64": as_strings(BITS), "bool": np.unpackbits(BITS, axis=1).astype(bool)}[kind]
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": data, "ids": IDS})
    group = inspect_hdf5(path, metric=Metric.JACCARD, dimension=512)
    check_exact(server_client, migrate(server_client, group), rows(IDS, BITS))


def test_binary_vectors_are_refused_by_milvus_lite(lite_client, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": BITS})
    report = migrate(lite_client, inspect_hdf5(path))
    assert "Lite" in report.faults[0]
    assert lite_client.list_collections() == []


def test_rows_go_to_the_named_partition(client, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS[:10]})
    for name in ("first", "second part"):
        group = inspect_hdf5(path, partition=name)
        report = migrate(client, group.__class__(**{**vars(group), "whole": False}), mode="append")
        assert report.status == VERIFIED
    there = rows(range(10), VECTORS[:10])
    assert stored(client, "news") == {"_default": {}, "first": there, "second_part": there}


# Ids that the target makes.


@pytest.fixture
def without_ids(tmp_path: Path) -> PartitionGroup:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS})
    return inspect_hdf5(path, options=Hdf5Options(ids="auto"), unit_bytes=40_000)


def vectors_in(client: MilvusClient) -> list[bytes]:
    return sorted(stored(client, "news")["_default"].values())


def test_the_target_generates_ids_and_every_row_is_there_once(client, without_ids):
    report = migrate(client, without_ids)
    assert (report.status, report.sampled, report.partitions[0].counted) == (VERIFIED, 0, ROWS)
    assert vectors_in(client) == sorted(map(bytes, VECTORS))
    assert client.describe_collection("news")["auto_id"] is True


def test_the_target_generates_ids_for_an_index_without_ids(client, tmp_path):
    path = write_index(tmp_path / "a.index", make_index("Flat", VECTORS))
    report = migrate(client, inspect_faiss(path, options=FaissOptions(ids="auto")))
    assert (report.status, report.partitions[0].counted) == (VERIFIED, ROWS)
    assert vectors_in(client) == sorted(map(bytes, VECTORS))


def test_rows_without_ids_that_were_appended_last_are_kept(client, without_ids):
    migrate(client, without_ids)
    assert migrate(client, without_ids, "append").action == "kept"
    assert vectors_in(client) == sorted(map(bytes, VECTORS))


def test_an_uncertain_load_without_ids_is_refused_and_a_new_run_starts_again(client, without_ids):
    chain = GroupsChain([without_ids], client)
    plans = chain.plan()
    created, _ = chain.create(plans)
    chain.load(plans, created)
    doubtful = next(iter(chain.stores.values()))["checkpoint"]
    doubtful["done"] = 0

    with pytest.raises(TargetError, match="No retry can be exact: load the collection again with mode overwrite"):
        chain.load(plans, created)
    assert migrate(client, without_ids).action == "created"
    assert client.list_collections() == ["news"]
    assert vectors_in(client) == sorted(map(bytes, VECTORS))


def test_an_append_without_ids_that_wrote_nothing_is_undone(client, without_ids, tmp_path):
    """Killed between the marker and the first row; once rows were written, nobody can tell them from others."""
    migrate(client, without_ids)
    before = vectors_in(client)
    path = write_hdf5(tmp_path / "b.h5", {"embeddings": VECTORS[:10] + 1})
    chain = GroupsChain([inspect_hdf5(path, options=Hdf5Options(ids="auto"))], client)
    plans = chain.plan()
    chain.create(plans, "append")
    assert "milvusdm abandon" in chain.create(plans, "append")[1]["news"][0]
    assert chain.run(mode="abandon")["news"].notes == ("0 rows of news were removed",)
    created, _ = chain.create(plans, "append")
    chain.load(plans, created)
    assert "mode overwrite" in chain.create(plans, "abandon")[1]["news"][0]
    assert len(vectors_in(client)) == len(before) + 10


def test_a_finished_load_without_ids_that_is_cleared_writes_no_row_twice(client, without_ids):
    chain = GroupsChain([without_ids], client)
    plans = chain.plan()
    created, _ = chain.create(plans)
    assert chain.load(plans, created)[0].rows == chain.load(plans, created)[0].rows
    client.flush(called(client, "news"))
    assert int(client.get_collection_stats(called(client, "news"))["row_count"]) == ROWS


# Faiss.


@pytest.mark.parametrize(
    ("target_uri", "kind"),
    [("lite", "IVF16,Flat"), ("lite", "IDMap2,Flat"), ("lite", "IDMap,HNSW8"), ("server", "IDMap2,Flat")],
    indirect=["target_uri"],
)
def test_an_index_with_ids_arrives_bit_for_bit(client, tmp_path, kind):
    path = write_index(tmp_path / "a.index", make_index(kind, VECTORS, IDS))
    check_exact(client, migrate(client, inspect_faiss(path)), rows(IDS, VECTORS))


@pytest.mark.parametrize(
    ("target_uri", "kind"), [("lite", "Flat"), ("lite", "HNSW8"), ("server", "Flat")], indirect=["target_uri"]
)
def test_an_index_without_ids_gets_row_numbers(client, tmp_path, kind):
    path = write_index(tmp_path / "a.index", make_index(kind, VECTORS))
    report = migrate(client, inspect_faiss(path, id_offset=100))
    check_exact(client, report, rows(range(100, ROWS + 100), VECTORS))
    assert "rows are numbered from 100" in "; ".join(report.notes)


def test_an_index_and_its_params_are_carried_over(server_client, tmp_path):
    index = make_index("IVF16,Flat", VECTORS, IDS, faiss.METRIC_INNER_PRODUCT)
    report = migrate(server_client, inspect_faiss(write_index(tmp_path / "a.index", index)))
    found = server_client.describe_index("news", server_client.list_indexes("news")[0])
    assert (found["index_type"], found["metric_type"], found["nlist"]) == ("IVF_FLAT", "IP", "16")
    assert (report.metric, report.target_metric) == ("IP", "IP")


@pytest.mark.parametrize("kind", ["BFlat", "BIVF8"])
def test_a_binary_index_arrives_bit_for_bit_on_a_server(server_client, tmp_path, kind):
    path = write_index(tmp_path / "a.index", make_index(kind, BITS))
    check_exact(server_client, migrate(server_client, inspect_faiss(path)), rows(range(ROWS), BITS))


def test_a_lossy_index_arrives_as_reconstructed_with_the_loss_in_the_report(client, tmp_path):
    index = make_index("IVF4,SQ8", VECTORS, IDS)
    path = write_index(tmp_path / "a.index", index)
    with pytest.raises(SourceError, match="allow_lossy: true"):
        inspect_faiss(path)
    report = migrate(client, inspect_faiss(path, options=FaissOptions(allow_lossy=True)))
    assert report.status == VERIFIED
    assert "vectors are reconstructed from it, near the originals" in "; ".join(report.notes)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    assert stored(client, "news")["_default"] == {int(i): index.reconstruct(int(i)).tobytes() for i in IDS}


# What ends before the target is touched.


def write_bad(path: Path, kind: str) -> Path:
    vectors = VECTORS.copy()
    vectors[7, 3] = np.nan
    data: dict[str, dict[str, Any]] = {
        "no embeddings": {"vectors": VECTORS},
        "lengths": {"embeddings": VECTORS, "ids": IDS[:-1]},
        "dtype": {"embeddings": VECTORS.astype("c8")},
        "nan": {"embeddings": vectors},
        "duplicates": {"embeddings": VECTORS, "ids": np.zeros(ROWS, int)},
        "shape": {"embeddings": VECTORS[:, 0]},
    }
    if kind == "object":
        with h5py.File(path, "w") as file:
            file.create_dataset("embeddings", (2,), h5py.vlen_dtype(np.float32))
        return path
    if kind == "truncated":
        write_hdf5(path, {"embeddings": VECTORS}, compression="gzip")
        path.write_bytes(path.read_bytes()[:-2000])
        return path
    return write_hdf5(path, data[kind])


BAD = ("no embeddings", "lengths", "dtype", "nan", "duplicates", "shape", "object", "truncated")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_leaves_an_existing_collection_untouched(lite_client, tmp_path, kind):
    good = inspect_hdf5(write_hdf5(tmp_path / "good.h5", {"embeddings": VECTORS}))
    migrate(lite_client, good)
    before = lite_client.describe_collection("news")

    path = write_bad(tmp_path / "bad.h5", kind)
    try:
        report = migrate(lite_client, inspect_hdf5(path), "overwrite")
    except SourceError as error:
        said = str(error)
    else:
        assert report.status == FAILED
        said = report.faults[0]
    assert "bad.h5" in said
    assert lite_client.describe_collection("news") == before
    assert stored(lite_client, "news") == {"_default": rows(range(ROWS), VECTORS)}


# Another metric.


@pytest.fixture
def inner_product(tmp_path: Path) -> Sequence[PartitionGroup]:
    """Vectors of unit length, and the same with one that is not."""
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    other = unit.copy()
    other[ROWS // 2] *= 1.5
    paths = [write_hdf5(tmp_path / f"{n}.h5", {"embeddings": part}) for n, part in enumerate((unit, other))]
    return [inspect_hdf5(path, metric=Metric.IP) for path in paths]


def test_inner_product_becomes_cosine_if_vectors_have_unit_length(client, inner_product):
    report = migrate(client, inner_product[0], settings={"metric_type": "COSINE"})
    assert (report.status, report.metric, report.target_metric) == (VERIFIED, "IP", "COSINE")
    found = client.describe_index("news", client.list_indexes("news")[0])
    assert found["metric_type"] == "COSINE"


def test_inner_product_does_not_become_cosine_if_a_vector_has_another_length(client, inner_product):
    report = migrate(client, inner_product[1], settings={"metric_type": "COSINE"})
    assert "can't be compared by COSINE instead of IP" in report.faults[0]
    assert f"id {ROWS // 2}" in report.faults[0]
    assert "length 1.5" in report.faults[0]
    assert client.list_collections() == []


def test_a_binary_metric_is_refused_for_floats(client, inner_product):
    report = migrate(client, inner_product[0], settings={"metric_type": "HAMMING"})
    assert "can't be compared by HAMMING" in report.faults[0]
    assert client.list_collections() == []


# A dry run.


def test_a_dry_run_creates_nothing_and_reports_the_plan(client, tmp_path):
    group = inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS}))
    report = migrate(client, group, plan_only=True)
    assert (report.status, report.action, report.faults) == (PLANNED, "would be created", ())
    assert [(part.live, part.loaded, part.counted) for part in report.partitions] == [(ROWS, 0, None)]
    assert f"{ROWS} rows" in "; ".join(report.notes)
    assert client.list_collections() == []


@pytest.mark.parametrize(
    ("mode", "action"), [("skip", "skipped"), ("append", "appended"), ("overwrite", "overwritten")]
)
def test_a_dry_run_does_not_change_existing_collections(client, tmp_path, mode, action):
    one = inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS}))
    migrate(client, one)
    before = client.describe_collection("news")
    other = inspect_hdf5(write_hdf5(tmp_path / "b.h5", {"embeddings": VECTORS}), id_offset=ROWS)
    report = migrate(client, other, mode, plan_only=True)
    assert (report.status, report.action) == (PLANNED, f"would be {action}")
    assert client.describe_collection("news") == before
    assert stored(client, "news") == {"_default": rows(range(ROWS), VECTORS)}


def test_a_dry_run_finds_faults(client, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS})
    migrate(client, inspect_hdf5(path))
    wider = write_hdf5(tmp_path / "b.h5", {"embeddings": np.tile(VECTORS, 2)})
    report = migrate(client, inspect_hdf5(wider), "append", plan_only=True)
    assert "has dimension 8" in report.faults[0]


def test_a_dry_run_says_what_a_server_needs_and_has(server_client, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS})
    notes = "; ".join(migrate(server_client, inspect_hdf5(path), plan_only=True).notes)
    assert "of its memory to be loaded" in notes
    assert "less than a minute to write" in notes


# Settings of the target.


def test_settings_arrive_on_the_server(server_client, tmp_path):
    group = inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS}))
    settings = {
        "index_type": "HNSW",
        "index_params": {"M": 8, "efConstruction": 50},
        "shards": 3,
        "consistency_level": "Bounded",
        "collections": {"news": {"load": False, "dynamic_field": True}, "other": {"shards": 5}},
    }
    report = migrate(server_client, group, settings=settings)
    assert (report.status, report.target_index) == (VERIFIED, "HNSW")
    found = server_client.describe_collection("news")
    assert found["num_shards"] == 3
    assert found["enable_dynamic_field"] is True
    assert found["consistency_level"] == 2
    index = server_client.describe_index("news", server_client.list_indexes("news")[0])
    assert (index["index_type"], index["M"], index["efConstruction"]) == ("HNSW", "8", "50")
    assert "NotLoad" in str(server_client.get_load_state("news")["state"])


def test_without_settings_the_server_defaults_apply(server_client, tmp_path):
    migrate(server_client, inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS})))
    found = server_client.describe_collection("news")
    assert (found["num_shards"], found["enable_dynamic_field"]) == (1, False)
    assert {field["name"]: field["type"] for field in found["fields"]} == {
        "id": DataType.INT64,
        "embedding": DataType.FLOAT_VECTOR,
    }
    assert "Loaded" in str(server_client.get_load_state("news")["state"])


def test_an_index_type_that_milvus_lite_lacks_is_refused_before_anything_is_created(lite_client, tmp_path):
    group = inspect_hdf5(write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS[:10]}))
    [fault] = migrate(lite_client, group, settings={"index_type": "DISKANN"}).faults
    assert "has no index DISKANN" in fault
    assert lite_client.list_collections() == []
