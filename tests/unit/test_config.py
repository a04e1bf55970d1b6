"""Params of a migration: what is taken, and all that is wrong told at once."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_milvusdm.config import Migration, parse_selection, read_migration
from airflow_provider_milvusdm.exceptions import ConfigurationError

PATH = {"source_milvus_path": "/data/milvus"}


def faults(params: dict[str, Any]) -> list[str]:
    """What is said of each bad param."""
    with pytest.raises(ConfigurationError) as fault:
        read_migration(params)
    return [line[2:] for line in str(fault.value).splitlines() if line.startswith("- ")]


def test_defaults() -> None:
    assert read_migration(PATH).model_dump() == PATH | {
        "source_collection": {"*": None},
        "mysql_conn_id": None,
        "catalog_path": None,
        "tables_path": None,
        "wal_path": None,
        "milvus_conn_id": "milvus_default",
        "dest_host": None,
        "dest_port": None,
        "dest_uri": None,
        "mode": "skip",
        "rename": {},
        "id_field": "id",
        "vector_field": "embedding",
        "create_index": True,
        "duplicate_ids": "error",
        "unflushed_log": "error",
        "verify": "sample",
        "unit_mib": 256,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("news", {"news": None}),
        ("*", {"*": None}),
        (["news", "more"], {"news": None, "more": None}),
        ({"news": None}, {"news": None}),
        ({"news": []}, {"news": None}),
        ({"news": "2021"}, {"news": ["2021"]}),
        ({"news": ["2021", "_default"], "more": None}, {"news": ["2021", "_default"], "more": None}),
    ],
)
def test_each_spelling_of_a_selection_becomes_an_object(value: Any, expected: dict[str, Any]) -> None:
    assert parse_selection(value) == expected
    assert read_migration({**PATH, "source_collection": value}).source_collection == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_milvus_path", ""),
        ("source_milvus_path", 5),
        ("source_collection", {}),
        ("source_collection", []),
        ("source_collection", ""),
        ("source_collection", 5),
        ("source_collection", None),
        ("source_collection", ["news", 5]),
        ("source_collection", [["news"]]),
        ("source_collection", [{"news": None}]),
        ("source_collection", {"news": 5}),
        ("source_collection", {"news": [2021]}),
        ("source_collection", {"news": {"2021": None}}),
        ("source_collection", {2021: None}),
        ("mysql_conn_id", 5),
        ("catalog_path", ["a"]),
        ("tables_path", True),
        ("wal_path", 1.5),
        ("milvus_conn_id", ""),
        ("milvus_conn_id", None),
        ("dest_host", 5),
        ("dest_port", 0),
        ("dest_port", 65536),
        ("dest_port", "port"),
        ("dest_port", "-1"),
        ("dest_port", "65536"),
        ("dest_port", 1.5),
        ("dest_port", True),
        ("dest_uri", 5),
        ("mode", "replace"),
        ("mode", "Skip"),
        ("mode", None),
        ("rename", {"news": 5}),
        ("rename", ["news"]),
        ("rename", "news"),
        ("id_field", "1id"),
        ("id_field", "id\n"),
        ("id_field", ""),
        ("vector_field", "my vector"),
        ("vector_field", "x" * 256),
        ("create_index", "yes"),
        ("create_index", 1),
        ("duplicate_ids", "keep_first"),
        ("unflushed_log", "replay"),
        ("verify", "all"),
        ("unit_mib", 0),
        ("unit_mib", "256"),
        ("unit_mib", 1.5),
    ],
)
def test_a_bad_value_is_refused_with_its_name(name: str, value: Any) -> None:
    [fault, *more] = faults({**PATH, name: value})
    assert fault.startswith(name)
    assert ", found " in fault
    assert all(other.startswith(name) for other in more)


def test_every_param_has_a_bad_value_above() -> None:
    table = test_a_bad_value_is_refused_with_its_name.pytestmark[0].args[1]
    assert {name for name, _ in table} == set(Migration.model_fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dest_port", 65535),
        ("dest_port", "19530"),
        ("dest_host", ""),
        ("rename", {"news/2021": "y2021"}),
        ("id_field", "_key2"),
        ("create_index", False),
        ("unflushed_log", "ignore"),
        ("verify", "counts"),
        ("mode", "append"),
        ("mode", "overwrite"),
        ("unit_mib", 1),
    ],
)
def test_a_good_value_is_taken(name: str, value: Any) -> None:
    expected = int(value) if name == "dest_port" else value
    assert getattr(read_migration({**PATH, name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("source_colection", "did you mean source_collection?"),
        ("modes", "did you mean mode?"),
        ("dest_ports", "did you mean dest_port?"),
        ("zzz", "there is no such param"),
        ("mysql_parameter", "make an Airflow connection of it and give its id as mysql_conn_id"),
    ],
)
def test_an_unknown_param_is_refused_with_the_nearest(name: str, hint: str) -> None:
    [fault] = faults({**PATH, name: {"password": "s3cret"}})
    assert fault.startswith(f"{name}: there is no such param")
    assert hint in fault
    assert "s3cret" not in fault


def test_all_faults_are_told_at_once() -> None:
    found = faults({"mode": "x", "unit_mib": 0, "rename": {"a": 1, "b": 2}, "sources": "x", "dest_port": "x"})
    names = ["source_milvus_path: required", "dest_port", "mode", "rename.a", "rename.b", "unit_mib", "sources"]
    assert len(found) == len(names)
    assert all(fault.startswith(name) for fault, name in zip(found, names, strict=True))


@pytest.mark.parametrize("other", [{"dest_host": "milvus"}, {"dest_port": 19530}])
def test_a_uri_stands_alone(other: dict[str, Any]) -> None:
    assert read_migration({**PATH, "dest_uri": "lite.db"}).dest_uri == "lite.db"
    with pytest.raises(ConfigurationError, match=r"(?i)dest_uri and dest_host or dest_port are both set"):
        read_migration({**PATH, "dest_uri": "lite.db", **other})
