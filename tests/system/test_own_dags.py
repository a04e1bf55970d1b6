"""DAGs that a user writes with what the package offers: the whole chain as a task group, and single operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_xcom
from tests.support.collections_2x import stored
from tests.support.dag_templates import write_dag
from tests.support.directories import write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.printed import read_blocks
from tests.support.targets import milvus_client

WITH_GROUP = """
from airflow.sdk import DAG, Param, task

from airflow_provider_milvusdm.migration import migration_group, migration_params


@task
def announce(params):
    return params["team"]


@task
def search():
    return "searched"


params = migration_params(mode="append", unit_mib=64) | {"team": Param("nobody", type="string")}
with DAG("with_group", params=params) as dag:
    announce() >> migration_group("milvus1x_to_milvus") >> search()
"""

BY_HAND = """
from airflow.sdk import DAG, XComArg

from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.milvus import (
    MilvusCreateCollectionOperator,
    MilvusLoadOperator,
    MilvusUnitsOperator,
    MilvusVerifyOperator,
)
from airflow_provider_milvusdm.operators.milvus1x import Milvus1xInspectOperator, Milvus1xSegmentOperator
from airflow_provider_milvusdm.operators.plan import PlanOperator
from airflow_provider_milvusdm.operators.report import ReportOperator

with DAG("by_hand") as dag:
    inspect = Milvus1xInspectOperator(
        task_id="inspect", source_milvus_path="{source}", source_collection={{"news": ["2021-03 news"]}}
    )
    resolve = Milvus1xSegmentOperator.partial(task_id="resolve").expand(partitions=inspect.output)
    plan = PlanOperator(
        task_id="plan",
        groups=inspect.output,
        resolved=XComArg(resolve, RESULT),
        rename={{"news": "articles", "news/2021-03 news": "march"}},
        vector_field="vector",
    )
    create = MilvusCreateCollectionOperator.partial(
        task_id="create", dest_uri="{target}", mode="overwrite", create_index=False
    ).expand(collections=plan.output)
    units = MilvusUnitsOperator(task_id="units", collections=plan.output, created=XComArg(create, RESULT))
    load = MilvusLoadOperator.partial(task_id="load", dest_uri="{target}").expand(units=units.output)
    verify = MilvusVerifyOperator.partial(
        task_id="verify",
        dest_uri="{target}",
        created=XComArg(create, RESULT),
        loaded=XComArg(load, RESULT),
        verify="counts",
        create_index=False,
    ).expand(collections=plan.output)
    ReportOperator(task_id="tell", collections=plan.output, reports=XComArg(verify, RESULT))
"""

SMALL_SHARES = """
from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.model import shares

shares.SHARE_ROWS = 40
dag = migration_dag("small_shares")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": {"_default": range(100), "2021-03 news": range(100, 150)}})


def test_the_chain_is_one_group_among_a_users_own_tasks_and_params(
    directory: Milvus1xDirectory, milvus_lite_uri: str, tmp_path: Path, airflow_home: Callable[[Path], dict[str, str]]
) -> None:
    env = airflow_home(write_dag(tmp_path / "dags", "with_group", WITH_GROUP))
    conf = {"source_milvus_path": str(directory.path), "dest_uri": milvus_lite_uri, "team": "search"}
    ended = dags_test(env, "with_group", conf)

    assert ended.run is not None, ended.output
    assert ended.state == "success", ended.output
    assert set(ended.run.states.values()) == {"success"}
    assert read_xcom(env, ended.run, "announce") == "search"
    assert read_xcom(env, ended.run, "search") == "searched"
    assert [report["status"] for report in read_xcom(env, ended.run, "milvus1x_to_milvus.report")["collections"]] == [
        "verified"
    ]
    with milvus_client(milvus_lite_uri) as client:
        client.load_collection("news")
        assert stored(client, "news") == {
            "_default": directory.live("news"),
            "_2021_03_news": directory.live("news", "2021-03 news"),
        }


@pytest.mark.parametrize(
    ("params", "state", "told"),
    [({"source_collection": "unknown"}, "failed", "upstream_failed"), ({"dry_run": True}, "success", "success")],
)
def test_tasks_behind_the_group_run_and_leave_the_run_red(
    directory: Milvus1xDirectory,
    milvus_lite_uri: str,
    tmp_path: Path,
    airflow_home: Callable[[Path], dict[str, str]],
    params: dict[str, object],
    state: str,
    told: str,
) -> None:
    env = airflow_home(write_dag(tmp_path / "dags", "behind_it", read_blocks("how-it-runs")[1].text))
    source = {"source_milvus_path": str(directory.path), "dest_uri": milvus_lite_uri}
    ended = dags_test(env, "behind_it", source | params)
    assert ended.run is not None, ended.output
    assert ended.state == state, ended.output
    assert ended.run.states["clean_up", -1] == "success"
    assert ended.run.states["tell_the_team", -1] == told


def test_single_operators_take_plain_arguments(
    directory: Milvus1xDirectory, milvus_lite_uri: str, tmp_path: Path, airflow_home: Callable[[Path], dict[str, str]]
) -> None:
    text = BY_HAND.format(source=directory.path, target=milvus_lite_uri)
    ended = dags_test(airflow_home(write_dag(tmp_path / "dags", "by_hand", text)), "by_hand", {})

    assert ended.state == "success", ended.output
    with milvus_client(milvus_lite_uri) as client:
        assert client.list_collections() == ["articles"]
        assert client.list_indexes("articles") == []
        params = client.prepare_index_params()
        params.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_index("articles", params)
        client.load_collection("articles")
        assert stored(client, "articles", vector_field="vector") == {
            "_default": {},
            "march": directory.live("news", "2021-03 news"),
        }


def test_a_large_partition_is_resolved_in_shares(
    milvus_lite_uri: str, tmp_path: Path, airflow_home: Callable[[Path], dict[str, str]]
) -> None:
    rows = {"_default": range(100), "small": range(200, 230)}
    directory = write_directory(tmp_path / "milvus", {"news": rows}, dimension=8192)
    env = airflow_home(write_dag(tmp_path / "dags", "small_shares", SMALL_SHARES))
    conf = {"source_milvus_path": str(directory.path), "dest_uri": milvus_lite_uri, "unit_mib": 1}
    ended = dags_test(env, "small_shares", conf)

    assert ended.run is not None, ended.output
    assert ended.state == "success", ended.output
    assert sorted(number for task, number in ended.run.states if task == "resolve_ids") == [0, 1, 2, 3]
    [news] = read_xcom(env, ended.run, "report")["collections"]
    assert [(part["partition"], part["loaded"]) for part in news["partitions"]] == [("_default", 100), ("small", 30)]
    assert news["status"] == "verified"
    with milvus_client(milvus_lite_uri) as client:
        client.load_collection("news")
        assert stored(client, "news") == {
            "_default": directory.live("news"),
            "small": directory.live("news", "small"),
        }
