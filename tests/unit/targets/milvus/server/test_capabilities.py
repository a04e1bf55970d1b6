"""What targets of each version can do; versions that no test can start are represented by their version text."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.targets.milvus.prepare.auto_id import accepts_new_ids
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import refuse_too_many
from airflow_provider_milvusdm.targets.milvus.server.capabilities import accepts_ids_with_auto_id, max_partitions
from tests.support.repository import ROOT


class Version:
    def __init__(self, version: str) -> None:
        self.version = version

    def get_server_version(self) -> str:
        return self.version


@pytest.mark.parametrize(
    ("version", "generates", "partitions"),
    [
        ("milvus_lite-3.2.2", True, None),
        ("v2.3.5-lite", False, 4096),
        ("2.2.16", False, 4096),
        ("v2.4.0", False, 1024),
        ("2.5.14", False, 1024),
        ("2.6.2", False, 1024),
        ("v2.6.3", True, 1024),
        ("2.6.10", True, 1024),
        ("3.0.0-beta", True, 1024),
        ("master-20260107-9d9fe22", False, None),
    ],
)
def test_what_each_version_can_do(version: str, generates: bool, partitions: int | None) -> None:
    client: Any = Version(version)
    assert accepts_ids_with_auto_id(client) == generates
    assert max_partitions(client) == partitions


def test_no_other_module_asks_for_milvus_lite_or_a_version() -> None:
    asking = ("is_lite(", "get_server_version()")
    modules = (ROOT / "airflow_provider_milvusdm").rglob("*.py")
    texts = {path.name: path.read_text() for path in modules}
    assert {name for name, text in texts.items() if any(word in text for word in asking)} == {"capabilities.py"}


def test_the_user_may_name_another_limit_of_partitions() -> None:
    client: Any = Version("2.6.3")
    names = [str(number) for number in range(65)]
    refuse_too_many(client, "news", names[:64], CollectionSettings(max_partitions=64))
    with pytest.raises(TargetError, match="at most 64, the value of target: max_partitions"):
        refuse_too_many(client, "news", names, CollectionSettings(max_partitions=64))


def test_one_partition_more_than_the_target_allows_is_refused() -> None:
    client: Any = Version("2.6.3")
    names = [str(number) for number in range(1024)]
    refuse_too_many(client, "news", names, CollectionSettings())
    with pytest.raises(TargetError) as fault:
        refuse_too_many(client, "news", [*names, "more"], CollectionSettings())
    assert "at most 1024, the default of the target's version, found 1025" in str(fault.value)
    assert "partitions: partition_key" in str(fault.value)


@pytest.mark.parametrize(
    ("auto_id", "properties", "expected"),
    [
        (True, {"allow_insert_auto_id": "true"}, True),
        (True, {"allow_insert_auto_id": "True"}, True),
        (True, {"allow_insert_auto_id": "false"}, False),
        (True, {}, False),
        (False, {"allow_insert_auto_id": "true"}, False),
    ],
)
def test_a_collection_that_makes_ids_and_keeps_others(
    auto_id: bool, properties: dict[str, str], expected: bool
) -> None:
    assert accepts_new_ids(auto_id, properties) == expected
