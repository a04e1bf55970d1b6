"""A directory with everything that a 1.x server can leave arrives exact."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import FAILED, VERIFIED, CollectionReport
from tests.support.chain import Chain
from tests.support.collections_2x import stored
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.rich_directory import BINARY, FLOAT, PARTITIONS, RENAME, write_rich_directory
from tests.support.side_by_side import migrate
from tests.support.targets import drop_all_collections, milvus_client
from tests.support.tree_checksum import tree_checksum

UNIT_BYTES = 4096

pytestmark = pytest.mark.xdist_group(
    "whole_directory"
)  # its fixtures are asked for by name, where pytest cannot see them


@dataclass
class Migrated:
    directory: Milvus1xDirectory
    client: MilvusClient
    reports: dict[str, CollectionReport]
    checksums: tuple[str, str]
    """Checksums of the source, before and after."""


@pytest.fixture(scope="module")
def in_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    folder = tmp_path_factory.mktemp("into-lite")
    with migrated_into(str(folder / "lite.db"), folder, FLOAT) as migrated:
        yield migrated


@pytest.fixture(scope="module")
def in_server(tmp_path_factory: pytest.TempPathFactory, milvus_server_uri: str) -> Iterator[Migrated]:
    drop_all_collections(milvus_server_uri)
    with migrated_into(milvus_server_uri, tmp_path_factory.mktemp("into-server"), "*") as migrated:
        yield migrated


@contextmanager
def migrated_into(uri: str, folder: Path, selection: Any) -> Iterator[Migrated]:
    directory = write_rich_directory(folder / "milvus")
    before = tree_checksum(directory.path)
    with milvus_client(uri) as client:
        reports = migrate(
            Chain(directory.path, client, unit_bytes=UNIT_BYTES, id_scope="partition"), selection, rename=RENAME
        )
        yield Migrated(directory, client, reports, (before, tree_checksum(directory.path)))


@pytest.fixture
def migrated(request: pytest.FixtureRequest) -> Migrated:
    """The directory migrated into each kind of target, once for all tests."""
    found: Migrated = request.getfixturevalue(f"in_{request.param}")
    return found


def target_name(name: str) -> str:
    return RENAME.get(name, name.replace("$", "_"))


NAMES = {"lite": FLOAT, "server": [*FLOAT, *BINARY]}
"""The collections that each kind of target accepts."""
each_target = pytest.mark.parametrize("migrated", NAMES, indirect=True)
each_collection = pytest.mark.parametrize(
    ("migrated", "name"), [(kind, name) for kind in NAMES for name in NAMES[kind]], indirect=["migrated"]
)


@each_collection
def test_every_live_row_arrives_in_its_partition_and_no_other(migrated: Migrated, name: str) -> None:
    assert stored(migrated.client, target_name(name)) == {
        partition: migrated.directory.live(name, tag) for tag, partition in PARTITIONS[name].items()
    }


@each_collection
def test_the_report_has_the_counts_of_each_step(migrated: Migrated, name: str) -> None:
    report = migrated.reports[name]
    assert (report.status, report.action, report.faults) == (VERIFIED, "created", ())
    assert {part.partition: part.target for part in report.partitions} == PARTITIONS[name]
    for part in report.partitions:
        live = len(migrated.directory.live(name, part.partition))
        assert (part.live, part.loaded, part.before, part.counted) == (live, live, 0, live)


@each_target
def test_the_source_is_not_changed(migrated: Migrated) -> None:
    before, after = migrated.checksums
    assert before == after


@each_target
def test_nothing_else_is_created(migrated: Migrated) -> None:
    assert sorted(migrated.client.list_collections()) == sorted(map(target_name, migrated.reports))
    assert "gone" not in migrated.reports


INDEXES = {
    "news": ("IVF_FLAT", "L2"),
    "products": ("HNSW", "IP"),
    "year$2020": ("FLAT", "L2"),
    "nothing": ("HNSW", "L2"),
    "hamming": ("BIN_IVF_FLAT", "HAMMING"),
    "jaccard": ("BIN_FLAT", "JACCARD"),
    "tanimoto": ("BIN_IVF_FLAT", "JACCARD"),
    "substructure": ("BIN_FLAT", "SUBSTRUCTURE"),
    "superstructure": ("BIN_FLAT", "SUPERSTRUCTURE"),
}


@each_collection
def test_the_index_is_carried_over_as_mapped(migrated: Migrated, name: str) -> None:
    index = migrated.client.describe_index(target_name(name), "embedding")
    report = migrated.reports[name]
    assert (index["index_type"], index["metric_type"]) == INDEXES[name]
    assert (report.target_index, report.target_metric) == INDEXES[name]


@pytest.mark.parametrize(
    ("migrated", "name", "note"),
    [
        ("lite", "nothing", "index ANNOY became HNSW: the nearest graph index that Milvus 2.x has"),
        ("server", "nothing", "index ANNOY became HNSW: the nearest graph index that Milvus 2.x has"),
        ("server", "tanimoto", "metric TANIMOTO is not in Milvus 2.x: JACCARD orders the same"),
    ],
    indirect=["migrated"],
)
def test_what_milvus_2_lacks_is_noted(migrated: Migrated, name: str, note: str) -> None:
    assert note in migrated.reports[name].notes


@pytest.mark.parametrize(
    ("migrated", "name", "step"),
    [
        ("lite", "news", 150),
        ("lite", "year$2020", 1),
        ("server", "news", 150),
        ("server", "year$2020", 1),
        ("server", "hamming", 3),
    ],
    indirect=["migrated"],
)
def test_a_stored_vector_is_found_at_once(migrated: Migrated, name: str, step: int) -> None:
    rows = dict(list(migrated.directory.live(name).items())[::step])
    found = migrated.client.search(
        target_name(name),
        [vector if name in BINARY else floats(vector) for vector in rows.values()],
        limit=1,
        partition_names=["_default"],
    )
    assert [(hits[0]["id"], hits[0]["distance"]) for hits in found] == [(row_id, 0) for row_id in rows]


def floats(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def test_units_split_and_group_segments(tmp_path: Path, lite_client: MilvusClient) -> None:
    directory = write_rich_directory(tmp_path / "milvus")
    [plan] = Chain(directory.path, lite_client, unit_bytes=UNIT_BYTES).plan("news", {"news/新闻": "xinwen"})
    assert max(unit.stored_rows for unit in plan.units) == UNIT_BYTES // 32
    assert any(row_slice.start for unit in plan.units for row_slice in unit.slices)
    assert any(len(unit.slices) > 1 for unit in plan.units)


def test_binary_vectors_are_refused_by_milvus_lite_before_anything_is_created(
    tmp_path: Path, lite_client: MilvusClient
) -> None:
    directory = write_rich_directory(tmp_path / "milvus")
    reports = Chain(directory.path, lite_client).run(list(BINARY))
    for name, report in reports.items():
        [fault] = report.faults
        assert report.status == FAILED
        assert f"collection {name!r} holds binary vectors" in fault.lower()
        assert "found Milvus Lite (milvus_lite-" in fault
        assert "which has no BINARY_VECTOR. What to do: Set dest_host and dest_port, or milvus_conn_id" in fault
    assert lite_client.list_collections() == []
