"""The directory that a real 0.9.1 server left arrives as its `expected.json` says."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_milvusdm.report import VERIFIED
from tests.support.chain import Chain
from tests.support.real_directory import SOURCE, expected_collections, found_collections
from tests.support.side_by_side import migrate
from tests.support.targets import milvus_client
from tests.support.tree_checksum import tree_checksum


def test_a_real_directory_arrives_with_the_expected_checksums(target_uri: str, real_data: Path) -> None:
    source, expected = real_data / SOURCE, expected_collections(real_data)
    before = tree_checksum(source)
    with milvus_client(target_uri) as client:
        reports = migrate(Chain(source, client))
    assert {name: report.status for name, report in reports.items()} == dict.fromkeys(expected, VERIFIED)
    assert found_collections(target_uri, source) == expected
    assert tree_checksum(source) == before
