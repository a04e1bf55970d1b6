"""A collection that the rows do not fit into is refused with the differences and the cure, and stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymilvus import DataType, MilvusClient

from tests.support.chain import Chain
from tests.support.collections_2x import create_index, make_collection
from tests.support.directories import write_directory

ID = {"field_name": "id", "datatype": DataType.INT64, "is_primary": True}
EMBEDDING = {"field_name": "embedding", "datatype": DataType.FLOAT_VECTOR, "dim": 8}
TITLE = {"field_name": "title", "datatype": DataType.VARCHAR, "max_length": 9}
UNFIT: dict[str, tuple[list[dict[str, Any]], str]] = {
    "another dimension": ([ID, EMBEDDING | {"dim": 16}], "embedding has dimension 16"),
    "another name of the key": (
        [ID | {"field_name": "key"}, EMBEDDING],
        "id is not an INT64 primary key; fields key need values",
    ),
    "another key": (
        [{"field_name": "id", "datatype": DataType.VARCHAR, "max_length": 9, "is_primary": True}, EMBEDDING],
        "id is not an INT64 primary key",
    ),
    "ids made by the target": ([ID | {"auto_id": True}, EMBEDDING], "its ids are made by the target (auto_id)"),
    "another name of the vector": (
        [ID, EMBEDDING | {"field_name": "vector"}],
        "embedding is not a FLOAT_VECTOR; fields vector need values",
    ),
    "another field": ([ID, EMBEDDING, TITLE], "fields title need values"),
    "several differences": (
        [ID | {"auto_id": True}, EMBEDDING | {"dim": 4}, TITLE],
        "its ids are made by the target (auto_id); embedding has dimension 4; fields title need values",
    ),
}


@pytest.fixture
def refusal(client: MilvusClient, tmp_path: Path) -> Callable[..., str]:
    """Returns a function that creates `news` of a source in the target, and returns the fault."""
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1], "a": [2]}})
    chain = Chain(directory.path, client)

    def refuse(mode: str, selection: Any = "news") -> str:
        before = client.describe_collection("news"), client.list_partitions("news")
        created, faults = chain.create(chain.plan(selection), mode)
        assert created == []
        assert (client.describe_collection("news"), client.list_partitions("news")) == before
        [fault] = faults["news"]
        return fault

    return refuse


@pytest.mark.parametrize(("fields", "difference"), UNFIT.values(), ids=UNFIT.keys())
def test_another_schema(
    client: MilvusClient, refusal: Callable[..., str], fields: list[dict[str, Any]], difference: str
) -> None:
    schema = client.create_schema(enable_dynamic_field=False)
    for field in fields:
        schema.add_field(**field)
    client.create_collection("news", schema=schema)
    fault = refusal("append")
    assert "collection 'news' of the target does not fit" in fault.lower()
    assert (
        "xpected id INT64 primary key, embedding FLOAT_VECTOR of dimension 8, and no other field that needs a value"
        in fault
    )
    assert f"found {difference}." in fault
    assert "Use mode overwrite, or rename to load into a collection of its own." in fault


@pytest.mark.parametrize(
    ("mode", "selection"), [("append", "news"), ("overwrite", {"news": ["a"]}), ("skip", {"news": ["a"]})]
)
def test_every_mode_that_keeps_a_collection_checks_it(
    client: MilvusClient, refusal: Callable[..., str], mode: str, selection: Any
) -> None:
    make_collection(client, "news", {}, dimension=16)
    assert "embedding has dimension 16" in refusal(mode, selection)


def test_another_metric(client: MilvusClient, refusal: Callable[..., str]) -> None:
    make_collection(client, "news", {}, metric="IP")
    assert "its index has metric IP, the source L2" in refusal("append")


def test_another_kind_of_vector(server_client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1]}}, dimension=16)
    schema = server_client.create_schema()
    schema.add_field(**ID)
    schema.add_field("embedding", DataType.BINARY_VECTOR, dim=16)
    server_client.create_collection("news", schema=schema)
    chain = Chain(directory.path, server_client)
    _, faults = chain.create(chain.plan(), "append")
    assert "embedding is not a FLOAT_VECTOR" in faults["news"][0]


def test_fields_that_want_no_value_and_names_of_fields_are_no_hindrance(client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1, 2]}})
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    schema.add_field("count", DataType.INT64, default_value=0)
    client.create_collection("news", schema=schema)
    create_index(client, "news", "L2", field="vector")
    chain = Chain(directory.path, client)
    plans = chain.plan(id_field="key", vector_field="vector")
    [created], _ = chain.create(plans, "append")
    chain.load(plans, [created])
    client.load_collection("news")
    rows = client.query("news", "key > 0", output_fields=["key", "count"], consistency_level="Strong")
    assert sorted((row["key"], row["count"]) for row in rows) == [(1, 0), (2, 0)]
