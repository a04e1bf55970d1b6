"""The steps of the chain that need no target, as Airflow runs them: JSON in, JSON out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from airflow_provider_milvusdm.exceptions import ConfigurationError, TransientError
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, from_json, to_json
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.operators.base import FAULT, MigrationOperator
from airflow_provider_milvusdm.operators.faiss import FaissInspectOperator
from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.hdf5 import Hdf5ExportOperator, Hdf5InspectOperator, Hdf5UnitsOperator
from airflow_provider_milvusdm.operators.milvus import MilvusLoadOperator, MilvusUnitsOperator, MilvusVerifyOperator
from airflow_provider_milvusdm.operators.milvus1x import (
    Milvus1xCheckOperator,
    Milvus1xInspectOperator,
    Milvus1xSegmentOperator,
)
from airflow_provider_milvusdm.operators.plan import PlanOperator
from airflow_provider_milvusdm.operators.report import ReportOperator
from airflow_provider_milvusdm.operators.resolve import ResolveOperator
from airflow_provider_milvusdm.operators.xcom import list_values
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import write_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import assert_in_order, read_rows
from tests.support.xcom import XComs


@pytest.fixture
def xcoms() -> XComs:
    return XComs()


def fault_of(xcoms: XComs, operator: MigrationOperator) -> dict[str, Any]:
    """The fault that a step that fails leaves for later steps."""
    with pytest.raises(AirflowFailException):
        xcoms.run(operator)
    [fault] = xcoms.given(operator, -1, operator.task_id, FAULT)
    [found] = xcoms.manifests(fault)
    return dict(found)


def resolve(xcoms: XComs, groups: list[Any]) -> list[Any]:
    """What the resolve tasks return."""
    tasks = [Milvus1xSegmentOperator(task_id="r", partitions=group) for group in groups]
    return [xcoms.run(task, map_index=number) for number, task in enumerate(tasks)]


@pytest.fixture
def source(directory: Milvus1xDirectory) -> Path:
    """Collections `news`, two partitions of 3 and 2 rows, and `broken`, whose segment is gone."""
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1, 2, 3], np.ones((3, 4)))
    directory.segment(directory.partition(news, "2021"), [1, 2], np.ones((2, 4)))
    broken = directory.collection("broken", dimension=4)
    directory.segment(broken, [1], np.ones((1, 4)), write_folder=False)
    return directory.write()


@pytest.mark.parametrize(
    "selection", [{"news": None}, '{"news": null}', "news", ["news"], {"news": ["_default", "2021"]}]
)
def test_the_steps_pass_on_json_from_the_source_to_the_units(xcoms: XComs, source: Path, selection: Any) -> None:
    groups = xcoms.run(
        Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source), source_collection=selection)
    )
    resolving = [Milvus1xSegmentOperator(task_id="r", partitions=group) for group in groups]
    resolved = [xcoms.run(operator, map_index=number) for number, operator in enumerate(resolving)]
    assert [operator.label for operator in resolving] == ["news/_default +1"]
    plans = xcoms.run(PlanOperator(task_id="p", groups=groups, resolved=resolved, rename='{"news": "articles"}'))
    assert [plan["target"]["name"] for plan in xcoms.manifests(*plans)] == ["articles"]
    created = to_json(CreatedCollection("news", Action.CREATED, {"_default": 0, "_2021": 0}))
    listing = MilvusUnitsOperator(task_id="u", collections=plans, created=[[created]])
    units = [from_json(LoadUnit, unit) for unit in xcoms.manifests(*xcoms.run(listing))]
    assert [unit.upsert for unit in units] == [False]
    assert [unit["upsert"] for unit in xcoms.manifests(*xcoms.run(listing, try_number=2))] == [True]
    assert {where: len(rows) for where, rows in read_rows(units).items()} == {
        ("news", "_default"): 3,
        ("news", "_2021"): 2,
    }


@pytest.mark.parametrize("selection", [{"news": []}, '{"news": []}', {"broken": None, "news": ()}])
def test_an_empty_list_of_partitions_is_refused(xcoms: XComs, source: Path, selection: Any) -> None:
    inspect = Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source), source_collection=selection)
    assert "The list of partitions of collection 'news' is empty" in fault_of(xcoms, inspect)["fault"]


@pytest.mark.parametrize("unflushed_log", ["replay", "ignore"])
def test_a_log_folder_that_is_given_must_exist(xcoms: XComs, source: Path, unflushed_log: str) -> None:
    named = {"wal_path": str(source / "wahl"), "unflushed_log": unflushed_log}
    inspect = Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source), **named)
    assert_in_order(fault_of(xcoms, inspect)["fault"], ["o log folder", str(source / "wahl"), "wal_path"])
    (source / "wahl").mkdir()
    assert "no log of the 1.x server in" in xcoms.manifests(*xcoms.run(inspect))[0]["notes"][0]


def test_catalog_and_segments_may_be_in_other_places(xcoms: XComs, source: Path, tmp_path: Path) -> None:
    catalog = (source / "db" / "meta.sqlite").rename(tmp_path / "meta")
    tables = (source / "db" / "tables").rename(tmp_path / "segments")
    found = xcoms.run(
        Milvus1xInspectOperator(
            task_id="i",
            source_milvus_path=str(source),
            catalog_path=str(catalog),
            tables_path=str(tables),
            unit_mib="1",
        )
    )
    groups = xcoms.manifests(*found)
    assert {group["source"]["folder"] for group in groups} == {str(tables)}
    assert {group["unit_bytes"] for group in groups} == {1 << 20}


def test_a_fault_fails_the_task_at_once_and_is_left_for_later_steps(xcoms: XComs, source: Path) -> None:
    [group] = xcoms.run(
        Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source), source_collection="broken")
    )
    resolving = Milvus1xSegmentOperator(task_id="r", partitions=group)
    fault = fault_of(xcoms, resolving)
    assert fault["collection"] == "broken"
    assert "folder is gone" in fault["fault"]
    faults = xcoms.given(resolving, -1, "r", FAULT)
    [plan] = xcoms.manifests(*xcoms.run(PlanOperator(task_id="p", groups=[group], resolved=[], faults=faults)))
    assert plan["error"] == fault["fault"]


def test_more_partitions_than_airflow_maps_tasks_are_exported_in_groups(
    xcoms: XComs, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = {"source_milvus_path": str(source), "source_collection": "news", "unit_mib": 0}
    groups = xcoms.run(Milvus1xInspectOperator(task_id="i", **inspect))
    plans = xcoms.run(PlanOperator(task_id="p", groups=groups, resolved=resolve(xcoms, groups), faults=[]))
    units = Hdf5UnitsOperator(task_id="u", collections=plans, data_dir=str(tmp_path))
    assert [len(xcoms.manifests(group)) for group in xcoms.run(units)] == [1, 1]
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    assert [len(xcoms.manifests(group)) for group in xcoms.run(units)] == [2]


def test_only_listing_the_partitions_to_export_creates_the_folder_of_the_run(
    xcoms: XComs, source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "dag" / "run"
    groups = xcoms.run(Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source), source_collection="news"))
    plans = xcoms.run(PlanOperator(task_id="p", groups=groups, resolved=resolve(xcoms, groups), faults=[]))
    arguments: Any = {"task_id": "u", "collections": plans, "data_dir": str(tmp_path / "out"), "run": "dag/run"}
    assert xcoms.run(Hdf5UnitsOperator(**arguments, plan_only=True)) == []
    failed = to_json(CollectionPlan("broken", TargetCollection("broken"), error="its folder is gone"))
    assert xcoms.run(Hdf5UnitsOperator(**arguments | {"collections": [[failed]]})) == []
    assert not folder.exists()
    [units] = xcoms.run(Hdf5UnitsOperator(**arguments))
    [marker] = folder.iterdir()
    assert {unit["marker"] for unit in xcoms.manifests(units)} == {str(marker)}
    marker.unlink()
    with pytest.raises(TransientError, match="see the log above"):
        xcoms.run(Hdf5ExportOperator(task_id="e", units=xcoms.manifests(units)))
    assert not list(folder.iterdir())


def test_a_dry_run_saves_no_rows_that_are_left_out(xcoms: XComs, directory: Milvus1xDirectory, tmp_path: Path) -> None:
    directory.segment(directory.collection("news", dimension=2), [5, 6], [[np.nan, 1], [2, 3]])
    [group] = xcoms.run(Milvus1xInspectOperator(task_id="i", source_milvus_path=str(directory.write())))
    policies = {"invalid_vectors": "skip", "skipped_rows_dir": str(tmp_path / "skipped")}
    for plan_only in (True, False):
        xcoms.run(Milvus1xSegmentOperator(task_id="r", partitions=group, plan_only=plan_only, **policies))
        assert (tmp_path / "skipped").exists() != plan_only


def test_invalid_vectors_are_not_skipped_without_a_folder_for_them(xcoms: XComs, directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=2), [5, 6], [[np.nan, 1], [2, 3]])
    [group] = xcoms.run(Milvus1xInspectOperator(task_id="i", source_milvus_path=str(directory.write())))
    resolve = Milvus1xSegmentOperator(task_id="r", partitions=group, invalid_vectors="skip")
    assert_in_order(fault_of(xcoms, resolve)["fault"], ["without a folder", "Expected skipped_rows_dir"])


def test_a_missing_source_fails_at_once(xcoms: XComs) -> None:
    fault = fault_of(xcoms, Milvus1xInspectOperator(task_id="i", source_milvus_path="/nowhere"))
    assert "No Milvus 1.x catalog: /nowhere" in fault["fault"]


def test_a_report_with_a_failed_collection_fails_the_run(xcoms: XComs, source: Path) -> None:
    groups = xcoms.run(Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source)))
    resolving = Milvus1xSegmentOperator(task_id="r", partitions=groups[0])
    with pytest.raises(AirflowFailException, match="1 of 2 failed: broken"):
        xcoms.run(resolving)
    resolved = xcoms.given(resolving, -1, "r", RESULT)
    plans = xcoms.run(PlanOperator(task_id="p", groups=groups, resolved=resolved))
    verified = to_json(CollectionReport("news", "news", status="verified"))
    fault = fault_of(xcoms, ReportOperator(task_id="t", collections=plans, reports=[[verified]]))
    assert "1 of 2 collections failed" in fault["fault"]
    report = xcoms.run(ReportOperator(task_id="t", collections=plans[:1], reports=[[verified]]))
    assert len(report["collections"]) == 1


def test_a_source_is_inspected_again_and_changes_are_reported_by_collection(
    xcoms: XComs, directory: Milvus1xDirectory
) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1, 2, 3], np.ones((3, 4)))
    directory.segment(directory.collection("faces", dimension=4), [1], np.ones((1, 4)))
    asked = {
        "source_milvus_path": str(directory.write()),
        "source_collection": {"news": None, "faces": None, "no": None},
    }
    inspected = xcoms.run(Milvus1xInspectOperator(task_id="i", **asked))
    check = Milvus1xCheckOperator(task_id="c", inspected=inspected, **asked)

    def changes() -> list[Any]:
        return xcoms.manifests(*xcoms.run(check))

    assert changes() == []
    directory.segment(news, [4], np.ones((1, 4)), segment_id="9")
    directory.write()
    [change] = changes()
    assert change["collection"] == "news"
    assert "segment news/9: none then, 1 rows now" in change["fault"]
    directory.catalog_path.unlink()
    assert [(change["collection"], "No Milvus 1.x catalog" in change["fault"]) for change in changes()] == [
        ("news", True),
        ("faces", True),
        ("no", True),
    ]
    assert xcoms.run(Milvus1xCheckOperator(task_id="c", inspected=None, **asked)) == []


def test_a_collection_fails_if_its_source_could_not_be_inspected_again(xcoms: XComs, source: Path) -> None:
    groups = xcoms.run(Milvus1xInspectOperator(task_id="i", source_milvus_path=str(source), source_collection="news"))
    [plan] = xcoms.run(PlanOperator(task_id="p", groups=groups, resolved=resolve(xcoms, groups)))
    verify = MilvusVerifyOperator(task_id="v", collections=plan, created=[], loaded=[], changes=None)
    assert "it is unknown whether the source changed: see the log of check_source" in fault_of(xcoms, verify)["fault"]


@pytest.mark.parametrize(("xcoms", "values"), [(None, []), ([], []), ([None, 1, None], [1]), ((1, 2), [1, 2])])
def test_results_of_upstream_tasks_are_a_list_without_gaps(xcoms: Any, values: list[Any]) -> None:
    assert list_values(xcoms) == values


@pytest.mark.parametrize("ids", ["row_number", "auto"])
@pytest.mark.parametrize("operator", [Hdf5InspectOperator, FaissInspectOperator])
def test_rows_of_files_without_ids_get_the_ids_asked_for(xcoms: XComs, tmp_path: Path, operator: Any, ids: str) -> None:
    vectors = np.ones((3, 4), np.float32)
    if operator is Hdf5InspectOperator:
        path = write_hdf5(tmp_path / "a.h5", {"embeddings": vectors})
    else:
        path = write_index(tmp_path / "a.index", make_index("Flat", vectors))
    groups = xcoms.run(operator(task_id="i", data_path=str(path), dest_collection_name="news", ids=ids))
    resolved = [xcoms.run(ResolveOperator(task_id="r", partitions=group)) for group in groups]
    [plan] = xcoms.manifests(*xcoms.run(PlanOperator(task_id="p", groups=groups, resolved=resolved)))
    assert plan["target"]["ids_by_target"] is (ids == "auto")


@pytest.mark.parametrize(("ids_dataset", "expected"), [("ids?", "dataset"), (None, "row_number"), ("", "row_number")])
def test_rows_are_numbered_if_there_is_no_dataset_of_ids(
    xcoms: XComs, tmp_path: Path, ids_dataset: str | None, expected: str
) -> None:
    """An empty text is what a template makes of null."""
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": np.ones((3, 4), np.float32), "ids": np.arange(3)})
    operator = Hdf5InspectOperator(
        task_id="i", data_path=str(path), dest_collection_name="news", ids_dataset=ids_dataset
    )
    [group] = xcoms.manifests(*xcoms.run(operator))
    assert group["source"]["options"]["ids"] == expected


BUCKET = {"conn_type": "aws", "login": "key", "password": "secret"}


def import_store() -> ImportStore | None:
    return MilvusLoadOperator(task_id="l", units=[], milvus_conn_id="target").import_store()


@pytest.mark.parametrize(
    ("url", "root", "named"),
    [
        ("file:///data/import/", "/data/import", "/data/import/a.npy"),
        ("s3://bucket@milvus/import", "milvus/import", "import/a.npy"),
        ("s3://bucket@milvus", "milvus", "a.npy"),
    ],
)
def test_import_url_gives_the_folder_of_files_and_their_names_on_the_server(
    url: str, root: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps(BUCKET))
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps({"conn_type": "milvus"} | {"extra": {"import_url": url}}))
    store = import_store()
    assert store
    assert store.root == root
    assert store.server_name(f"{root}/a.npy") == named


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s3://nowhere@milvus/import", AirflowNotFoundException),
        ("foo://bar/x", ConfigurationError),
        ("/data/import", ConfigurationError),
        ("import", ConfigurationError),
        ("file://data/import", ConfigurationError),
        ("s3:///import", ConfigurationError),
    ],
)
def test_an_invalid_import_url_is_refused(url: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps({"conn_type": "milvus"} | {"extra": {"import_url": url}}))
    with pytest.raises(error):
        import_store()


def test_without_an_import_url_there_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps({"conn_type": "milvus"}))
    assert import_store() is None
