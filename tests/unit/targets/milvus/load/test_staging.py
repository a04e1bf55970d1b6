"""Files of a bulk import: NumPy reads from them what was read from the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_milvusdm.exceptions import ConfigurationError, ImportFailedError
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows import reader
from airflow_provider_milvusdm.targets.milvus.load import staging
from airflow_provider_milvusdm.targets.milvus.load.staging import (
    ImportStore,
    StagedPartition,
    StagedUnit,
    stage_unit,
)
from tests.support.chain import inspect_directory, plan_groups
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING, L2

TARGET = TargetCollection("news")
ROWS = 50
VECTORS = {L2: np.arange(ROWS * 16, dtype="f4").reshape(ROWS, 16), HAMMING: np.arange(ROWS * 2, dtype="u1")}


@pytest.fixture
def store(tmp_path: Path) -> ImportStore:
    return ImportStore(LocalFileSystem(), str(tmp_path))


@pytest.fixture(params=[L2, HAMMING], ids=["float", "binary"])
def unit(request: pytest.FixtureRequest, directory: Milvus1xDirectory) -> LoadUnit:
    """50 rows in `_default`, the first and last deleted, none in `a`."""
    news = directory.collection("news", dimension=16, metric=request.param)
    directory.segment(news, range(ROWS), VECTORS[request.param].reshape(ROWS, -1), deleted=[0, ROWS - 1])
    directory.segment(directory.partition(news, "a"), [1], VECTORS[request.param].reshape(ROWS, -1)[:1], deleted=[0])
    [plan] = plan_groups(inspect_directory(directory.write(), max_tasks=2))
    [unit] = plan.units
    return unit


def stage(unit: LoadUnit, store: ImportStore, target: TargetCollection = TARGET) -> StagedUnit:
    return stage_unit(unit, target, store, f"{store.root}/files", lambda done, rows: None)


def contents(staged: StagedPartition) -> dict[str, Any]:
    return {Path(file).stem: np.load(file) for file in staged.files}


def test_the_live_rows_of_a_partition_become_one_file_for_each_field(
    unit: LoadUnit, store: ImportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "rows_within", lambda collection: 7)
    staged = stage(unit, store)
    [partition] = staged.partitions
    assert (partition.partition, partition.asked, partition.job) == ("_default", False, 0)
    assert staged.rows == {"_default": ROWS - 2}
    found = contents(partition)
    assert {name: (values.dtype.str, len(values)) for name, values in found.items()} == {
        "id": ("<i8", ROWS - 2),
        "embedding": ("|u1" if unit.collection.metric.is_binary else "<f4", ROWS - 2),
    }
    assert found["id"].tolist() == list(range(1, ROWS - 1))
    [(_, _, batch), *_] = reader.read_slices(unit.source, unit.collection, unit.slices, ROWS)
    assert np.array_equal(found["embedding"], batch.vectors)


@pytest.mark.parametrize("unit", [L2], indirect=True)
def test_ids_that_the_target_makes_have_no_file(unit: LoadUnit, store: ImportStore) -> None:
    staged = stage(unit, store, TargetCollection("news", ids_by_target=True))
    assert list(contents(staged.partitions[0])) == ["embedding"]


def test_columns_beside_ids_and_vectors_have_files_too(directory: Milvus1xDirectory, store: ImportStore) -> None:
    news = directory.collection("news", dimension=2)
    for table in (news, directory.partition(news, "新闻 2021")):
        directory.segment(table, [7, 7, 8], [[0, 1], [2, 3], [4, 5]], deleted=[2])
    [plan] = plan_groups(inspect_directory(directory.write(), max_tasks=2), policies=RowPolicies("remap"))
    staged = stage(plan.units[0], store, TargetCollection("news", partition_field="tag"))
    assert staged.rows == {"_default": 2, "新闻 2021": 2}
    [partition] = staged.partitions
    assert partition.partition == ""
    found = contents(partition)
    assert found["source_id"].tolist() == [7, 7, 7, 7]
    assert len(set(found["id"].tolist())) == 4
    assert found["tag"].tolist() == ["_default", "_default", "新闻 2021", "新闻 2021"]
    assert found["embedding"].tolist() == [[0, 1], [2, 3]] * 2


@pytest.mark.parametrize("unit", [L2], indirect=True)
def test_a_unit_too_large_for_the_server_is_refused(
    unit: LoadUnit, store: ImportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "FILE_BYTES", (ROWS - 2) * 64 - 1)
    with pytest.raises(ConfigurationError, match=r"field 'embedding' of 48 rows.*Set unit_mib to less"):
        stage(unit, store)


@pytest.mark.parametrize("unit", [L2], indirect=True)
def test_a_store_that_does_not_exist_is_not_created(unit: LoadUnit, tmp_path: Path) -> None:
    with pytest.raises(ImportFailedError, match="No such file"):
        stage(unit, ImportStore(LocalFileSystem(), str(tmp_path / "not mounted")))


def test_a_store_is_probed_and_left_as_it_was(store: ImportStore) -> None:
    store.probe(f"{store.root}/probe")
    assert list(Path(store.root).iterdir()) == []


@pytest.mark.parametrize("name", ["not mounted", "file", "file/below"])
def test_a_store_that_cannot_be_written_is_refused_by_its_probe(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    store = ImportStore(LocalFileSystem(), str(tmp_path / name))
    with pytest.raises(ConfigurationError, match=r"imports can't be written and removed: .*import_url"):
        store.probe(f"{store.root}/probe")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_server_names_a_file_in_its_bucket_without_the_bucket() -> None:
    assert (
        ImportStore(LocalFileSystem(), "bucket/import", bucket=7).server_name("bucket/import/a.npy") == "import/a.npy"
    )
