"""Assets: their URIs, Airflow's own handling of them, lineage."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_milvusdm.assets import create_asset, create_lite_asset
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan, to_json
from airflow_provider_milvusdm.model.collections import SourceRef, TargetCollection
from airflow_provider_milvusdm.operators.assets import PublishAssetsOperator
from airflow_provider_milvusdm.report import PLANNED, SKIPPED, VERIFIED, CollectionReport, PartitionReport


def test_a_uri_gets_port_and_database_and_quotes() -> None:
    assert Asset(uri="milvus://Milvus.Example/news").uri == "milvus://milvus.example:19530/default/news"
    assert Asset(uri="milvus://m:1/books/news/").uri == "milvus://m:1/books/news"
    hostile = "a/b <script>?#%é"
    asset = create_asset(host="M.", port=19530, database="d b", collection=hostile)
    assert asset.uri == asset.name == "milvus://m:19530/d%20b/a%2Fb%20%3Cscript%3E%3F%23%25%C3%A9"
    assert Asset(uri=asset.uri) == asset
    assert create_lite_asset("/data/my target.db", "news").uri == "file:///data/my%20target.db/news"


@pytest.mark.parametrize("uri", ["milvus://root@m/news", "milvus://m", "milvus://m/a/b/c", "milvus:///news"])
def test_what_names_no_collection_or_holds_a_login_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="milvus://"):
        Asset(uri=uri)


def test_a_host_with_a_login_is_refused() -> None:
    """Airflow would drop it from the URI, and show it in the name."""
    with pytest.raises(ValueError, match="login"):
        create_asset(host="root:secret@m", collection="news")


class Instance:
    """A task instance with results in XCom."""

    dag_id, run_id, task_id, map_index = "move", "run", "publish_assets", 0

    def xcom_pull(self, **_: Any) -> Any:
        raise AssertionError("the values are given as they are")


class Events(dict[Any, Any]):
    def __missing__(self, key: AssetAlias) -> Any:
        added: list[tuple[str, Any]] = []
        self[key] = SimpleNamespace(added=added, add=lambda asset, extra: added.append((asset.uri, extra)))
        return self[key]


def publish(*reports: CollectionReport, uri: str) -> tuple[PublishAssetsOperator, list[tuple[str, Any]]]:
    plans = [
        to_json(CollectionPlan(report.collection, TargetCollection(report.target), SourceRef("milvus1x", "/data")))
        for report in reports
    ]
    operator = PublishAssetsOperator(
        task_id="publish_assets", collections=plans, reports=[[to_json(report) for report in reports]], dest_uri=uri
    )
    events = Events()
    operator.step({"ti": Instance(), "outlet_events": events})  # type: ignore[typeddict-item]
    return operator, events[AssetAlias("milvusdm")].added


def report(name: str, status: str, target: str = "", **others: Any) -> CollectionReport:
    parts = (PartitionReport("p", "p", 5, 0, 0, loaded=5),)
    return CollectionReport(name, target or name, status, partitions=parts, **others)


def test_only_what_was_loaded_and_verified_has_arrived() -> None:
    reports = (report("a", VERIFIED, "b"), report("c", SKIPPED), report("d", PLANNED), report("e", "failed"))
    operator, events = publish(*reports, uri="http://milvus:19531/books")
    [(uri, extra)] = events
    assert uri == "milvus://milvus:19531/books/b"
    assert (extra["collection"], extra["rows"], extra["dag_id"]) == ("a", 5, "move")
    assert operator.outlets == [AssetAlias("milvusdm")]
    with pytest.raises(AirflowSkipException):
        publish(report("c", SKIPPED), uri="http://milvus:19531")


def test_a_collection_has_not_arrived_where_it_was_not_verified() -> None:
    """Its connection was edited since."""
    verified = report("a", VERIFIED, address="http://milvus:19531, database default")
    assert len(publish(verified, uri="http://milvus:19531")[1]) == 1
    with pytest.raises(TargetError, match="Expected http://milvus:19531, database default, found http://other:19531"):
        publish(verified, uri="http://other:19531")


def test_a_uri_that_is_too_long_for_airflow_adds_no_event_and_stops_no_other() -> None:
    reports = (report("n" * 1500, VERIFIED), report("a", VERIFIED))
    _, events = publish(*reports, uri="http://milvus:19531")
    assert [uri for uri, _ in events] == ["milvus://milvus:19531/default/a"]
    with pytest.raises(AirflowSkipException):
        publish(reports[0], uri="http://milvus:19531")


def test_openlineage_gets_source_and_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the two packages, which are optional."""
    extractors = ModuleType("airflow.providers.openlineage.extractors")
    extractors.OperatorLineage = SimpleNamespace  # type: ignore[attr-defined]
    facet = ModuleType("airflow.providers.common.compat.openlineage.facet")
    facet.Dataset = SimpleNamespace  # type: ignore[attr-defined]
    for module in (ModuleType("airflow.providers.openlineage"), extractors, facet):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "airflow_provider_milvusdm.operators.lineage", raising=False)
    operator, _ = publish(report("a", VERIFIED), uri="http://milvus:19531")
    operator.sources += ["s3://conn@bucket/path"]
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert lineage.outputs == [SimpleNamespace(namespace="milvus://milvus:19531", name="default.a")]
    assert lineage.inputs == [
        SimpleNamespace(namespace="file", name="/data"),
        SimpleNamespace(namespace="s3://bucket", name="path"),
    ]
    monkeypatch.delitem(sys.modules, "airflow_provider_milvusdm.operators.lineage", raising=False)
