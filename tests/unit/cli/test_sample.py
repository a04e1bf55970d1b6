"""The sample that `milvusdm sample` writes is a 1.x directory like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_milvusdm.cli.sample import write_sample
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric
from tests.support.reading import catalog_of, read_rows, resolve
from tests.support.tree_checksum import tree_checksum


def test_it_is_read_with_the_expected_counts(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample")
    catalog = catalog_of(tmp_path / "sample")
    assert [catalog.collection(name) for name in catalog.names()] == [
        CollectionSpec("articles", 64, Metric.L2, "IVF_FLAT", {"nlist": 128}),
        CollectionSpec("products", 32, Metric.IP, "FLAT", {}),
    ]
    groups = resolve(tmp_path / "sample")
    counts = {
        (group.name, part.tag): (part.live_rows, part.deleted_rows) for group in groups for part in group.partitions
    }
    assert counts == {
        ("articles", "_default"): (2497, 3),
        ("articles", "2021-03 news"): (399, 1),
        ("articles", "empty"): (0, 0),
        ("products", "_default"): (599, 1),
    }
    rows = read_rows(unit for group in groups for unit in group.units)
    ids = {where: {row_id for row_id, _ in found} for where, found in rows.items()}
    assert ids == {
        ("articles", "_default"): set(range(2500)) - {3, 7, 1999},
        ("articles", "2021-03 news"): set(range(10_001, 10_400)),
        ("products", "_default"): set(range(-300, 300)) - {0},
    }
    assert len({vector for found in rows.values() for _, vector in found}) == 2497 + 399 + 599


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    write_sample(tmp_path / "a")
    (tmp_path / "b").mkdir()
    write_sample(tmp_path / "b")
    assert tree_checksum(tmp_path / "a") == tree_checksum(tmp_path / "b")


def test_a_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for target in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ConfigurationError, match=r"(?s)sample is not empty.*Choose another folder"):
            write_sample(target)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
