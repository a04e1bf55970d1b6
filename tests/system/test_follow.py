"""A 1.x server still in use is followed by the same run again and again, and readers are switched over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_xcom
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.targets import milvus_client


def rewrite(path: Path, ids: range) -> Milvus1xDirectory:
    """What a 1.x server left there; another vector for each id whenever `ids` start elsewhere."""
    shutil.rmtree(path, ignore_errors=True)
    return write_directory(path, {"news": {"_default": ids, "part": range(1000, 1010)}}, seed=ids.start)


def run(env: dict[str, str], params: dict[str, Any]) -> Any:
    """The report of the only collection after `airflow dags test`."""
    ended = dags_test(env, "milvusdm_m2m", params)
    assert ended.state == "success", ended.output
    assert ended.run is not None
    return read_xcom(env, ended.run, "report", key="report")["collections"][0]


def loaded(report: Any) -> int:
    return sum(part["loaded"] for part in report["partitions"])


def test_a_run_follows_the_source_without_a_hand(
    templates_env: dict[str, str], milvus_lite_uri: str, tmp_path: Path
) -> None:
    path = tmp_path / "milvus"
    params = {"source_milvus_path": str(path), "dest_uri": milvus_lite_uri, "mode": "sync", "verify": "full"}
    for ids, written in [(range(300), 310), (range(10, 320), 320), (range(10, 320), 0)]:
        directory = rewrite(path, ids)
        report = run(templates_env, params)
        assert (loaded(report), report["sampled"]) == (written, len(ids) + 10)
        with milvus_client(milvus_lite_uri) as client:
            client.load_collection("news")
            assert stored(client, "news") == {tag: directory.live("news", tag) for tag in ("_default", "part")}


def test_an_alias_moves_on_with_the_source(templates_env: dict[str, str], milvus_lite_uri: str, tmp_path: Path) -> None:
    path = tmp_path / "milvus"
    params = {"source_milvus_path": str(path), "dest_uri": milvus_lite_uri, "alias": {"news": "articles"}}
    reports = []
    for ids in (range(30), range(5, 60)):
        directory = rewrite(path, ids)
        reports.append(run(templates_env, params))
        with milvus_client(milvus_lite_uri) as client:
            assert client.describe_alias("articles")["collection_name"] == reports[-1]["target"]
            client.load_collection("articles")
            assert stored(client, "articles")["_default"] == directory.live("news")
    assert f"client.alter_alias('{reports[0]['target']}', 'articles')" in reports[1]["notes"][-1]
