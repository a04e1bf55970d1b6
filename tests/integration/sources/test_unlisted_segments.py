"""A catalog that is older than its segment folders deletes nothing from a target."""

from __future__ import annotations

from pathlib import Path

from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import FAILED, VERIFIED
from tests.support.chain import Chain
from tests.support.collections_2x import stored
from tests.support.directories import DIMENSION, random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory


def test_a_sync_of_a_copy_without_the_wal_of_its_catalog_is_refused(lite_client: MilvusClient, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=DIMENSION)
    directory.segment(news, range(100), random_vectors(100, seed=1))
    directory.write()
    older = directory.catalog_path.read_bytes()
    directory.segment(news, range(100, 1100), random_vectors(1000, seed=2))
    directory.write()
    assert Chain(directory.path, lite_client).run()["news"].status == VERIFIED
    whole = stored(lite_client, "news")
    assert whole == {"_default": directory.live("news")}

    directory.catalog_path.write_bytes(older)
    report = Chain(directory.path, lite_client).run(mode="sync")["news"]
    assert report.status == FAILED
    assert "found 1 with 1000 rows" in "\n".join(report.faults)
    assert stored(lite_client, "news") == whole
