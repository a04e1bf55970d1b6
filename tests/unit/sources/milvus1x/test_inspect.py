"""Which collections and partitions are selected, and how they are grouped into tasks."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import ConfigurationError, SourceError, SourceNotFoundError
from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import assert_in_order, catalog_of, errors, inspect, without_permissions

ROW = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture
def three(directory: Milvus1xDirectory) -> Milvus1xDirectory:
    """Collections `a` with partitions `x` and `y`, `b` with `x`, `c` with none."""
    for name, tags in {"a": ["x", "y"], "b": ["x"], "c": []}.items():
        collection = directory.collection(name, dimension=4)
        for tag in tags:
            directory.partition(collection, tag)
    directory.write()
    return directory


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("*", {"a": ["_default", "x", "y"], "b": ["_default", "x"], "c": ["_default"]}),
        ("b", {"b": ["_default", "x"]}),
        (["c", "a"], {"c": ["_default"], "a": ["_default", "x", "y"]}),
        ({"a": ["y", "x"]}, {"a": ["y", "x"]}),
        ({"a": "x", "b": None}, {"a": ["x"], "b": ["_default", "x"]}),
        ({"a": ["x", "x"]}, {"a": ["x"]}),
        ({"*": None, "a": ["x"]}, {"a": ["x"], "b": ["_default", "x"], "c": ["_default"]}),
    ],
)
def test_the_selection_is_inspected(three: Milvus1xDirectory, selection: Any, expected: dict[str, list[str]]) -> None:
    found: dict[str, list[str]] = {}
    for group in inspect(three.path, selection):
        found.setdefault(group.name, []).extend(partition.tag for partition in group.partitions)
        assert group.error == ""
    assert list(found.items()) == list(expected.items())


def test_a_group_knows_whether_the_whole_collection_was_asked_for(three: Milvus1xDirectory) -> None:
    groups = inspect(three.path, {"a": ["_default", "x", "y"], "b": None})
    assert {group.name: group.whole for group in groups} == {"a": False, "b": True}


@pytest.mark.parametrize("max_tasks", [6, 1024])
def test_partitions_that_become_a_key_are_one_group(three: Milvus1xDirectory, max_tasks: int) -> None:
    groups = inspect(three.path, partitions="partition_key", max_tasks=max_tasks)
    assert [(group.name, len(group.partitions), group.one_key_space) for group in groups] == [
        ("a", 3, True),
        ("b", 2, True),
        ("c", 1, True),
    ]


@pytest.mark.parametrize(
    ("selection", "parts"),
    [
        ("d", ["o collection 'd' in the catalog", "meta.sqlite", "ound collections a, b, c", "Correct"]),
        ({"a": ["z"]}, ["o partition 'z' in collection 'a'", "ound partitions '_default', 'x', 'y'", "Correct"]),
        ({"c": [""]}, ["o partition '' in collection 'c'", "ound partitions '_default'", "Correct"]),
    ],
)
def test_an_unknown_name_refuses_its_collection_and_others_go_on(
    three: Milvus1xDirectory, selection: Any, parts: list[str]
) -> None:
    selection = {selection: None} if isinstance(selection, str) else selection
    found = errors(inspect(three.path, {**selection, "b": None}))
    assert found.pop("b") == ""
    [text] = found.values()
    assert_in_order(text, parts)


def test_partitions_of_all_collections_at_once_are_refused(three: Milvus1xDirectory) -> None:
    with pytest.raises(ConfigurationError) as fault:
        inspect(three.path, {"*": ["x"]})
    assert_in_order(
        str(fault.value), ["can't be chosen at once", '{"*": null}', "found * with partitions x", "Name each"]
    )


def test_a_catalog_without_collections_is_refused(directory: Milvus1xDirectory) -> None:
    directory.write()
    directory.tables_folder.mkdir()
    with pytest.raises(SourceNotFoundError) as fault:
        inspect(directory.path)
    assert_in_order(str(fault.value), ["he catalog has no collection", "meta.sqlite", "meta.sqlite-wal"])


def test_a_missing_tables_folder_is_refused(three: Milvus1xDirectory) -> None:
    shutil.rmtree(three.tables_folder)
    with pytest.raises(SourceNotFoundError) as fault:
        inspect(three.path)
    assert_in_order(str(fault.value), ["o tables folder", str(three.tables_folder), "tables_path"])


def test_a_tables_folder_without_read_permission_is_refused(three: Milvus1xDirectory) -> None:
    catalog = catalog_of(three.path)
    with without_permissions(three.path), pytest.raises(SourceError, match="No permission to read the source"):
        inspect_catalog(
            catalog, three.tables_folder, three.path / "wal", {"a": None}, unit_bytes=1 << 20, max_tasks=1024
        )


def test_no_step_gets_more_tasks_than_a_run_may_map(directory: Milvus1xDirectory) -> None:
    for number in range(4):
        collection = directory.collection(f"c{number}", dimension=4, version="0.6.0" if number == 3 else None)
        for tag in range(10 * number):
            directory.partition(collection, f"p{tag}")
    directory.write()
    for max_tasks in (8, 20, 64, 65, 66, 67, 68, 1024):
        groups = inspect(directory.path, unit_bytes=1, max_tasks=max_tasks)
        assert len(groups) <= max_tasks // 2
        tags = {group.name: [] for group in groups}
        for group in groups:
            tags[group.name] += [partition.tag for partition in group.partitions]
        assert tags == {
            "c0": ["_default"],
            "c1": ["_default", *(f"p{tag}" for tag in range(10))],
            "c2": ["_default", *(f"p{tag}" for tag in range(20))],
            "c3": [],
        }


def test_a_run_may_have_more_collections_than_tasks(directory: Milvus1xDirectory) -> None:
    for number in range(50):
        directory.partition(directory.collection(f"c{number}", dimension=4), "x")
    groups = inspect(directory.write(), max_tasks=9)
    assert [len(group.partitions) for group in groups] == [2] * 50
    assert {group.unit_bytes for group in groups} == {256 << 20}


def test_units_grow_if_a_run_would_have_too_many(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("a", dimension=4), range(1000), np.zeros((1000, 4)))
    directory.write()
    assert [group.unit_bytes for group in inspect(directory.path, unit_bytes=100)] == [100]
    assert [group.unit_bytes for group in inspect(directory.path, unit_bytes=100, max_tasks=11)] == [1600]


def test_labels_are_short_and_name_the_partition(three: Milvus1xDirectory) -> None:
    asked = {"a": None, "d": None}
    labels = [group.label for group in inspect(three.path, asked, unit_bytes=1)]
    assert labels == ["a/_default", "a/x", "a/y", "d"]
    assert [group.label for group in inspect(three.path, "a", unit_bytes=1, max_tasks=4)] == ["a/_default", "a/x +1"]
    assert [group.label for group in inspect(three.path, asked)] == ["a/_default +2", "d"]
