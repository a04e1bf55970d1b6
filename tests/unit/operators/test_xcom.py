"""What tasks pull from XCom: their own, of this try, and in all no more than the source is large."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.manifests import (
    CollectionPlan,
    CreatedCollection,
    Exported,
    ExportUnit,
    Loaded,
    PartitionGroup,
    ResolvedGroup,
    ResolvedPartition,
    to_json,
)
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.units import LoadUnit, cut_units
from airflow_provider_milvusdm.operators import done
from airflow_provider_milvusdm.operators.base import cut_label
from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.hdf5 import Hdf5ExportOperator, Hdf5UnitsOperator, Hdf5VerifyOperator
from airflow_provider_milvusdm.operators.milvus import (
    MilvusCreateCollectionOperator,
    MilvusLoadOperator,
    MilvusUnitsOperator,
    MilvusVerifyOperator,
)
from airflow_provider_milvusdm.operators.milvus1x import Milvus1xInspectOperator, Milvus1xSegmentOperator
from airflow_provider_milvusdm.operators.plan import PlanOperator
from airflow_provider_milvusdm.operators.report import ReportOperator
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.sources.registry import narrow_source
from tests.support.directories import write_directory
from tests.support.killed import KilledError
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.reading import read_rows, resolve
from tests.support.xcom import RETURNED, XComs

FILE_VERSION = "0123456789abcdef" * 2


class Resolve(Milvus1xSegmentOperator):
    """Resolves segments of a catalog whose folders were never written."""

    def _resolve(self, _: Any, group: PartitionGroup, __: Any) -> ResolvedGroup:
        assert group.collection
        slices = [
            Slice(partition.tag, segment.name, 0, segment.live_rows, file_version=FILE_VERSION)
            for partition in group.partitions
            for segment in partition.segments
        ]
        rows = max(group.unit_bytes // group.collection.vector_bytes, 1)
        units = tuple(LoadUnit(group.source, group.collection, unit) for unit in cut_units(slices, rows))
        partitions = tuple(
            ResolvedPartition(partition.tag, partition.live_rows, 0, FILE_VERSION) for partition in group.partitions
        )
        return ResolvedGroup(group.name, partitions, units)


@pytest.fixture
def no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that accepts everything, and returns nothing that counts."""

    def create(_: Any, plan: CollectionPlan, *__: Any, **___: Any) -> CreatedCollection:
        return CreatedCollection(plan.name, Action.CREATED, dict.fromkeys(plan.partition_names.values(), 0))

    def load(_: str, __: Any, unit: LoadUnit, *___: Any) -> Loaded:
        rows = {row_slice.partition: row_slice.stored_rows for row_slice in unit.slices}
        return Loaded(unit.collection.name, rows, 1.0, unit.digest)

    def verify(_: Any, plan: CollectionPlan, created: Any, loads: Any, *__: Any, **___: Any) -> CollectionReport:
        assert len({load.unit for load in loads}) == len(plan.units)
        return CollectionReport(plan.name, status="verified")

    def export(unit: ExportUnit) -> Exported:
        return Exported(unit.collection.name, unit.partition, unit.path, unit.marker, unit.rows, 1.0)

    def verify_files(plan: CollectionPlan, exported: Any, *_: Any) -> CollectionReport:
        assert len(exported) == len(plan.partitions)
        return CollectionReport(plan.name, status="verified")

    monkeypatch.setattr(MilvusHook, "client", lambda *_, **__: nullcontext(Client()))
    monkeypatch.setattr(MilvusHook, "explained_errors", lambda _: nullcontext())
    monkeypatch.setattr(MilvusHook, "import_url", "")
    monkeypatch.setattr(MilvusHook, "address", "/data/target.db")
    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.prepare.create.create_collection", create)
    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.load.bulk_import.uses_import", lambda *_: False)
    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.load.bulk_import.load_unit_by", load)
    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.verify.collection.verify_collection", verify)
    monkeypatch.setattr("airflow_provider_milvusdm.targets.hdf5.export.export_partition", export)
    monkeypatch.setattr("airflow_provider_milvusdm.targets.hdf5.verify.verify_export", verify_files)


class Client:
    """Of a server."""

    def get_server_version(self) -> str:
        return "v2.3.5"


@dataclass
class Chain:
    """A chain of the operators, run with an XCom in memory."""

    source: Path
    options: dict[str, Any]
    xcoms: XComs

    def inspect(self) -> None:
        self.xcoms.run(Milvus1xInspectOperator(task_id="inspect", source_milvus_path=str(self.source), **self.options))

    def resolve(self) -> None:
        self.xcoms.run_mapped("inspect", lambda group: Resolve(task_id="resolve", partitions=group))

    def plan(self) -> None:
        plan = PlanOperator(task_id="plan", groups=None, resolved=None)
        [plan.groups], plan.resolved = self.pull(plan, "inspect"), self.pull(plan, "resolve", RESULT)
        self.xcoms.run(plan)

    def pull(self, task: Any, upstream: str, key: str = RETURNED) -> list[Any]:
        return self.xcoms.given(task, -1, upstream, key)

    def to_milvus(self) -> XComs:
        self.inspect()
        self.resolve()
        self.plan()
        self.load()
        self.xcoms.run_mapped("plan", self.verify)
        self._report()
        return self.xcoms

    def create(self) -> None:
        self.xcoms.run_mapped("plan", lambda plan: MilvusCreateCollectionOperator(task_id="create", collections=plan))

    def load(self) -> None:
        """Create the collections and load them."""
        self.create()
        units = MilvusUnitsOperator(task_id="units", collections=None, created=None)
        [units.collections], units.created = self.pull(units, "plan"), self.pull(units, "create", RESULT)
        self.xcoms.run(units)
        self.xcoms.run_mapped("units", lambda unit: MilvusLoadOperator(task_id="load", units=unit))

    def to_hdf5(self, folder: Path) -> XComs:
        self.inspect()
        self.resolve()
        self.plan()
        units = Hdf5UnitsOperator(task_id="units", collections=None, data_dir=str(folder), run="run")
        [units.collections] = self.pull(units, "plan")
        self.xcoms.run(units)
        self.xcoms.run_mapped("units", lambda unit: Hdf5ExportOperator(task_id="load", units=unit))
        self.xcoms.run_mapped("plan", self._verify_files)
        self._report()
        return self.xcoms

    def verify(self, plan: Any) -> MilvusVerifyOperator:
        verify = MilvusVerifyOperator(task_id="verify", collections=plan, created=None, loaded=None)
        verify.created, verify.loaded = self.pull(verify, "create", RESULT), self.pull(verify, "load", RESULT)
        return verify

    def _verify_files(self, plan: Any) -> Hdf5VerifyOperator:
        verify = Hdf5VerifyOperator(task_id="verify", collections=plan, exported=None)
        verify.exported = self.pull(verify, "load", RESULT)
        return verify

    def _report(self) -> None:
        report = ReportOperator(task_id="report", collections=None, reports=None)
        [report.collections], report.reports = self.pull(report, "plan"), self.pull(report, "verify", RESULT)
        self.xcoms.run(report)


def write_catalog(path: Path, *, tags: int, segments: int, collections: int = 1) -> Path:
    """A directory with a catalog of so many tags and segments in all, and a log; no segment has a folder."""
    directory, log = Milvus1xDirectory(path), Log(path / "wal")
    tables = []
    for number in range(collections):
        news = directory.collection(f"news_{number}", dimension=64)
        tables += [news, *(directory.partition(news, f"tag {tag}") for tag in range(1, tags // collections))]
        log.insert(f"news_{number}", "", [number], np.ones((1, 64), np.float32))
    for number in range(segments):
        table = tables[number % len(tables)]
        directory.segment(table, [], np.empty((0, 64)), row_count=64, write_folder=False)
    log.write()
    return directory.write()


def run_chain(path: Path, job: str, **options: Any) -> XComs:
    chain = Chain(path, {"unit_mib": 0} | options, XComs())
    return chain.to_milvus() if job == "M2M" else chain.to_hdf5(path / "out")


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its own manifests a task pulls a reference for each task: here there are as many tasks as are allowed."""
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "64")


@pytest.mark.usefixtures("no_target", "few_tasks")
@pytest.mark.parametrize(
    ("job", "small", "large", "options"),
    [
        ("M2M", {"tags": 1, "segments": 500}, {"tags": 1, "segments": 4000}, {}),
        ("M2M", {"tags": 100, "segments": 500}, {"tags": 800, "segments": 4000}, {}),
        ("M2M", {"tags": 100, "segments": 500}, {"tags": 800, "segments": 4000}, {"partitions": "partition_key"}),
        (
            "M2M",
            {"tags": 96, "collections": 32, "segments": 500},
            {"tags": 768, "collections": 32, "segments": 4000},
            {},
        ),
        ("M2H", {"tags": 64, "segments": 500}, {"tags": 64, "segments": 4000}, {}),
    ],
    ids=["segments", "tags", "partition_key", "collections", "files"],
)
def test_what_all_tasks_pull_grows_with_the_source_and_no_faster(
    tmp_path: Path, job: str, small: dict[str, int], large: dict[str, int], options: dict[str, str]
) -> None:
    """Segments and tags that are 8 times as many, and a log."""
    before, after = (
        run_chain(write_catalog(tmp_path / str(size["segments"]), **size), job, **options) for size in (small, large)
    )
    assert after.pulled.total() < 9 * before.pulled.total()


@pytest.mark.usefixtures("no_target")
@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), pytest.param({"partitions": "partition_key"}, marks=pytest.mark.long)],
    ids=["partitions", "partition_key"],
)
def test_a_task_of_a_large_source_pulls_its_own_unit(tmp_path: Path, options: dict[str, str]) -> None:
    """Of 20,000 segments, 4,096 tags and a log: 80 KB, most of it references."""
    xcoms = run_chain(write_catalog(tmp_path / "milvus", tags=4096, segments=20_000), "M2M", **options)
    loads = [size for (task, _), size in xcoms.pulled.items() if task == "load"]
    assert len(loads) > 900
    assert max(loads) < 90_000
    assert xcoms.pulled.total() < 120 << 20


@pytest.mark.usefixtures("no_target")
def test_what_tasks_left_that_are_no_longer_mapped_is_neither_planned_nor_reported(tmp_path: Path) -> None:
    """A partition and a collection that the second try of inspect no longer finds."""
    chain = Chain(write_catalog(tmp_path / "before", tags=6, segments=6, collections=2), {}, XComs())
    chain.to_milvus()
    chain.source = write_catalog(tmp_path / "after", tags=2, segments=2)
    xcoms = chain.to_milvus()
    [plan] = xcoms.manifests(*json.loads(xcoms.values["plan", -1, RETURNED]))
    assert [partition["tag"] for partition in plan["partitions"]] == ["_default", "tag 1"]
    assert len(xcoms.manifests(*json.loads(xcoms.values["units", -1, RETURNED]))) == 1
    report = json.loads(xcoms.values["report", -1, RETURNED])
    assert [collection["collection"] for collection in report["collections"]] == ["news_0"]


@pytest.mark.usefixtures("no_target")
def test_a_plan_ignores_what_was_resolved_for_another_try_of_inspect(tmp_path: Path) -> None:
    chain = Chain(write_catalog(tmp_path / "milvus", tags=2, segments=2), {}, XComs())
    chain.inspect()
    chain.resolve()
    chain.inspect()
    chain.plan()
    [plan] = chain.xcoms.manifests(*json.loads(chain.xcoms.values["plan", -1, RETURNED]))
    assert "_default, tag 1 of collection 'news_0' were not resolved" in plan["error"]


def test_a_missing_manifest_is_an_error_with_a_cure(tmp_path: Path) -> None:
    chain = Chain(write_catalog(tmp_path / "milvus", tags=1, segments=1), {}, XComs())
    chain.inspect()
    [group] = json.loads(chain.xcoms.values["inspect", -1, RETURNED])
    del chain.xcoms.values["inspect", -1, group["xcom"]]
    with pytest.raises(MilvusdmError, match="Clear task inspect and all tasks after it"):
        chain.xcoms.run(Resolve(task_id="resolve", partitions=group))


def test_a_label_too_long_for_airflow_is_cut_and_still_unique() -> None:
    tag = "新" * 125 + "x" * 125
    labels = [f"news/{tag}: {number}/{tag} [0:{end}]" for number in (1, 2) for end in (10, 11)]
    cut = [cut_label(label) for label in labels]
    assert len(set(cut)) == len(labels)
    assert {len(label) for label in cut} == {250}
    assert [(label[:50], label[-6:]) for label in cut] == [(label[:50], label[-6:]) for label in labels]
    assert cut_label("x" * 250) == "x" * 250


def test_the_label_of_every_mapped_step_is_cut(tmp_path: Path) -> None:
    xcoms = XComs()
    path = write_directory(tmp_path / "milvus", {"news": {"t" * 300: range(3)}}).path
    inspect = {"source_milvus_path": str(path), "source_collection": {"news": ["t" * 300]}}
    groups = xcoms.run(Milvus1xInspectOperator(task_id="inspect", **inspect))
    tasks = [Milvus1xSegmentOperator(task_id="resolve", partitions=group) for group in groups]
    resolved = [xcoms.run(task, map_index=number) for number, task in enumerate(tasks)]
    [plan] = xcoms.run(PlanOperator(task_id="plan", groups=groups, resolved=resolved))
    created = to_json(CreatedCollection("news", Action.CREATED, {"_default": 0, "t" * 300: 0}))
    units = xcoms.run(MilvusUnitsOperator(task_id="units", collections=[plan], created=[[created]]))
    tasks += [MilvusLoadOperator(task_id="load", units=xcoms.manifests(unit)) for unit in units]
    exports = xcoms.run(Hdf5UnitsOperator(task_id="units", collections=[plan], data_dir=str(tmp_path), run="run"))
    tasks += [Hdf5ExportOperator(task_id="export", units=xcoms.manifests(unit)) for unit in exports]
    assert max(len(task.label) for task in tasks) == 250


def test_a_unit_has_the_log_options_of_its_own_partitions_only_and_reads_the_same(tmp_path: Path) -> None:
    ids = {"_default": range(9), "a/b 新": range(10, 19), "c": range(30, 39)}
    path = write_directory(tmp_path / "milvus", {"news": ids}).path
    log = Log(path / "wal")
    log.add(DELETE, "news", ids=(1,))
    log.add(DELETE, "news", "c", ids=(32,))
    log.insert("news", "a/b 新", [20, 21], np.ones((2, 8), np.float32))
    log.write()
    [group] = resolve(path, partitions="partition_key", unit_bytes=1)
    units = [replace(unit, source=narrow_source(unit.source, unit.slices)) for unit in group.units]
    for unit in units:
        assert set(unit.source.options["flushed"]) == {row_slice.partition for row_slice in unit.slices}
    assert read_rows(units) == read_rows(group.units)


@pytest.mark.usefixtures("no_target")
def test_create_knows_whether_an_earlier_attempt_had_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(write_catalog(tmp_path / "milvus", tags=1, segments=1), {}, XComs())
    inputs: list[tuple[str, Any]] = []

    def create(_: Any, plan: CollectionPlan, *__: Any, **options: Any) -> CreatedCollection:
        inputs.append((options["step_input"], options["store"].get("note")))
        options["store"].set("note", options["step_input"])
        return CreatedCollection(plan.name, Action.SKIPPED)

    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.prepare.create.create_collection", create)
    chain.inspect()
    chain.resolve()
    chain.plan()
    for _ in range(2):
        chain.create()
    chain.plan()
    chain.create()
    first, second = inputs[0][0], inputs[2][0]
    assert first != second
    assert inputs == [(first, None), (first, first), (second, first)]


@pytest.mark.usefixtures("no_target")
def test_a_retry_of_verify_repeats_what_was_verified_before_earlier_steps_were_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow restarts a running task that is cleared, and its next try is a retry."""
    chain = Chain(write_catalog(tmp_path / "milvus", tags=2, segments=2, collections=2), {}, XComs())
    verified: list[str] = []

    def verify(_: Any, plan: CollectionPlan, *__: Any, **___: Any) -> CollectionReport:
        verified.append(plan.name)
        if len(verified) == 2:
            raise KilledError
        return CollectionReport(plan.name, status="verified")

    monkeypatch.setattr(done, "WRITE_SECONDS", -1)
    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.verify.collection.verify_collection", verify)
    with pytest.raises(KilledError):
        chain.to_milvus()
    chain.load()
    [plan] = json.loads(chain.xcoms.values["plan", -1, RETURNED])
    chain.xcoms.run(chain.verify(plan), try_number=2, map_index=0)
    assert sorted(verified) == ["news_0", "news_0", "news_1", "news_1"]


@pytest.mark.usefixtures("no_target")
def test_what_a_verification_had_compared_is_used_by_its_retries_until_it_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(write_catalog(tmp_path / "milvus", tags=2, segments=2), {}, XComs())
    found: list[Any] = []

    def verify(_: Any, plan: CollectionPlan, *__: Any, compared: Any, **___: Any) -> CollectionReport:
        found.append(compared.get("compared"))
        compared.set("compared", len(found))
        return CollectionReport(plan.name, status="verified")

    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.verify.collection.verify_collection", verify)
    chain.to_milvus()
    [plan] = json.loads(chain.xcoms.values["plan", -1, RETURNED])
    for attempt, max_tries in ((2, 0), (3, 5), (4, 5)):  # Airflow counts on, and adds the retries to the limit
        operator = chain.verify(plan)
        operator.retries = 3
        chain.xcoms.run(operator, attempt, map_index=0, max_tries=max_tries)
    assert found == [None, 1, None, 3]
