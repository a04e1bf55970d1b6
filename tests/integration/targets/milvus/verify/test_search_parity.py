"""Searches in the finished target return what an exact search of the source does, or the collection fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.cli.sample import write_sample
from airflow_provider_milvusdm.report import FAILED, VERIFIED, Report, render
from airflow_provider_milvusdm.targets.milvus.verify.search import SearchCheck
from tests.support.chain import Chain
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING, IP, JACCARD, L2, SUBSTRUCTURE
from tests.support.reading import assert_in_order

RANDOM = np.random.default_rng(20_211_005)
IVF_FLAT, HNSW = 2, 11


def directory(folder: Path, rows: int = 3000, **collection: Any) -> Milvus1xDirectory:
    directory = Milvus1xDirectory(folder)
    binary = collection.get("metric", L2) not in (L2, IP)
    vectors = RANDOM.integers(0, 256, (rows, 4), np.uint8) if binary else RANDOM.random((rows, 32), np.float32)
    news = directory.collection("news", dimension=32, **collection)
    half = rows // 2
    directory.segment(news, range(half), vectors[:half], deleted=range(0, half, 7))
    directory.segment(directory.partition(news, "x"), range(half, rows), vectors[half:])
    directory.write()
    return directory


@pytest.mark.parametrize("metric", [L2, IP])
def test_an_exact_index_finds_all(client: MilvusClient, tmp_path: Path, metric: int) -> None:
    chain = Chain(directory(tmp_path / "milvus", metric=metric).path, client)
    report = chain.run(search=SearchCheck(50, 1.0))["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert report.search is not None
    assert (report.search.queries, report.search.limit, report.search.recall) == (50, 10, 1.0)
    assert 0 < report.search.median_ms <= report.search.slow_ms
    assert "search: recall@10 1.0000 of 50 searches" in render(Report((report,)))


def test_equal_rows_that_share_an_id_in_two_partitions_are_one_hit(client: MilvusClient, tmp_path: Path) -> None:
    source = Milvus1xDirectory(tmp_path / "milvus")
    news, vectors = source.collection("news", dimension=8), RANDOM.random((500, 8), np.float32)
    for table in (news, source.partition(news, "x")):
        source.segment(table, range(500), vectors)
    report = Chain(source.write(), client).run(search=SearchCheck(50, 1.0))["news"]
    assert (report.status, report.faults) == (VERIFIED, ())


@pytest.mark.parametrize(("metric", "recall"), [(HAMMING, 1.0), (JACCARD, 1.0)])
def test_binary_vectors_are_found(server_client: MilvusClient, tmp_path: Path, metric: int, recall: float) -> None:
    chain = Chain(directory(tmp_path / "milvus", metric=metric).path, server_client)
    report = chain.run(search=SearchCheck(20, recall))["news"]
    assert (report.status, report.faults) == (VERIFIED, ())


def test_a_metric_that_selects_is_not_compared(server_client: MilvusClient, tmp_path: Path) -> None:
    chain = Chain(directory(tmp_path / "milvus", metric=SUBSTRUCTURE).path, server_client)
    report = chain.run(search=SearchCheck(20))["news"]
    assert (report.status, report.search) == (VERIFIED, None)
    assert "no search could be compared: see verify_search" in report.notes


def test_an_index_that_finds_too_little_fails_the_collection(client: MilvusClient, tmp_path: Path) -> None:
    path = directory(tmp_path / "milvus", engine=IVF_FLAT, index_params='{"nlist":256}').path
    chain = Chain(path, client)
    plans = chain.plan()
    created, _ = chain.create(plans)
    loaded = chain.load(plans, created)
    report = chain.verify(plans, created, loaded, search=SearchCheck(20, 0.9, {"nprobe": 1}))["news"]
    assert report.status == FAILED
    assert report.search is not None
    assert report.search.recall < 0.9
    assert "earches find too little" in report.faults[0]
    assert "nprobe=1" in report.faults[0]
    recalls = [trial.recall for trial in report.search.tried]
    assert [trial.params for trial in report.search.tried] == [{"nprobe": 4}, {"nprobe": 16}, {"nprobe": 64}]
    assert recalls == sorted(recalls)
    assert_in_order(report.faults[0], ["With nprobe=4 the recall is 0.", "nprobe=64 the recall is", "index_type"])
    again = chain.verify(plans, created, loaded, search=SearchCheck(20, 0.99, {"nprobe": 256}))["news"]
    assert (again.status, again.faults) == (VERIFIED, ())


def test_a_target_with_rows_of_its_own_is_not_compared(client: MilvusClient, tmp_path: Path) -> None:
    chain = Chain(directory(tmp_path / "milvus").path, client)
    chain.run({"news": ["x"]})
    client.insert("news", [{"id": 10**6, "embedding": [0.0] * 32}])
    report = chain.run({"news": ["_default"]}, mode="append", search=SearchCheck(5))["news"]
    assert (report.status, report.search) == (VERIFIED, None)


@pytest.mark.parametrize("partitions", ["keep", "partition_key"])
def test_of_partitions_that_were_named_only_these_are_searched(
    client: MilvusClient, tmp_path: Path, partitions: str
) -> None:
    chain = Chain(directory(tmp_path / "milvus").path, client, partitions=partitions)
    chain.run({"news": ["_default"]})
    report = chain.run({"news": ["x"]}, search=SearchCheck(20, 1.0))["news"]
    assert (report.status, report.faults) == (VERIFIED, ())


def test_the_sample_is_found_by_its_index(client: MilvusClient, tmp_path: Path) -> None:
    write_sample(tmp_path / "sample")
    reports = Chain(tmp_path / "sample", client).run(search=SearchCheck(100, 0.9))
    assert {name: (report.status, report.faults) for name, report in reports.items()} == {
        "articles": (VERIFIED, ()),
        "products": (VERIFIED, ()),
    }
