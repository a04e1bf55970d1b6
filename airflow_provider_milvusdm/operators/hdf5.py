"""Steps for HDF5: inspect files; list the partitions to export, export them, verify the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.manifests import CollectionPlan, Exported, ExportUnit, PartitionGroup
from airflow_provider_milvusdm.operators.base import RUN, MigrationOperator, run_folder
from airflow_provider_milvusdm.operators.done import SharedStore
from airflow_provider_milvusdm.operators.group import GroupOperator, MemberStep, push_units
from airflow_provider_milvusdm.operators.inspect_files import FilesInspectOperator
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.verify import CollectionVerifyOperator
from airflow_provider_milvusdm.operators.xcom import Reference
from airflow_provider_milvusdm.progress import expect_rows
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path

if TYPE_CHECKING:
    from airflow.sdk import Context

MARKERS = "markers"
"""Key in the task state: the names of the marker files that this run has written, also before it was cleared."""


class Hdf5InspectOperator(FilesInspectOperator):
    """Inspect HDF5 files.

    :param data_dir: a folder of HDF5 files, instead of ``data_path``.
    :param embeddings: path of the dataset with the vectors.
    :param ids_dataset: path of the dataset with the ids, which must exist; ``ids?``: dataset ``ids`` if it exists;
        None or empty: the files have no ids.
    """

    template_fields: Sequence[str] = (
        *FilesInspectOperator.template_fields,
        "data_dir",
        "embeddings",
        "ids_dataset",
    )

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        embeddings: str = "embeddings",
        ids_dataset: str | None = "ids?",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data_dir, self.embeddings, self.ids_dataset = data_dir, embeddings, ids_dataset

    def inspect(self, **target: Any) -> list[PartitionGroup]:
        from airflow_provider_milvusdm.sources.hdf5.inspect import inspect_hdf5, list_hdf5
        from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options

        paths = list_hdf5(source_path(self.data_dir)) if self.data_dir else _source_paths(self.data_path)
        options = Hdf5Options(self.embeddings, self.ids_dataset or None, self.ids)
        return inspect_hdf5(paths, options=options, **target)


def _source_paths(data_path: Any) -> list[AnyPath]:
    paths = parse_argument(data_path) or []
    return [source_path(path) for path in ([paths] if isinstance(paths, str) else paths)]


class Hdf5UnitsOperator(MigrationOperator):
    """List the partitions to export, each with its file, for :class:`Hdf5ExportOperator` to map over.

    It creates the folder of the run if there is any, and refuses that of another run. The workers of the later steps
    must see that folder.

    :param collections: what the plan step returned.
    :param data_dir: folder for the files: ``<data_dir>/<dag>/<run>/<collection>/<partition>.h5``.
    :param run: DAG and id of the run.
    :param plan_only: list nothing, so that nothing is exported.
    """

    template_fields: Sequence[str] = ("collections", "data_dir", "run", "plan_only")

    def __init__(
        self,
        *,
        collections: Any,
        data_dir: str,
        run: str = RUN,
        plan_only: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collections, self.data_dir, self.run, self.plan_only = collections, data_dir, run, plan_only

    def step(self, context: Context) -> list[Reference]:
        from airflow_provider_milvusdm.targets.hdf5.export import export_units
        from airflow_provider_milvusdm.targets.hdf5.run_folder import marker_of, write_marker
        from airflow_provider_milvusdm.targets.plan import refuse_unsaved

        if parse_argument(self.plan_only):
            return []
        folder = run_folder(self.data_dir, self.run)
        self.log.info("files go to %s", folder)
        store: Any = context["task_state_store"]
        own = store.get(MARKERS) or []
        marker = marker_of(folder, own)
        store.set(MARKERS, sorted({*own, marker.name}))

        def list_units(_: str, plans: Sequence[CollectionPlan]) -> Iterable[ExportUnit]:
            for plan in plans:
                refuse_unsaved(plan)
            units = export_units(plans, marker)
            expect_rows((unit.name, unit.rows) for unit in units)
            return units

        references = push_units(context["ti"], self.collections, list_units)
        if references:
            write_marker(marker)
        return references


class Hdf5ExportOperator(GroupOperator):
    """Write partitions to their files.

    :param units: one of the groups of units of :class:`Hdf5UnitsOperator`.
    """

    template_fields: Sequence[str] = ("units",)
    member_type = ExportUnit

    def __init__(self, *, units: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    @property
    def group(self) -> Any:
        return self.units

    def unit_of(self, member: ExportUnit) -> str:
        return member.digest

    @contextmanager
    def prepared(self, context: Context) -> Iterator[MemberStep]:
        yield MemberStep(self._export)

    def _export(self, unit: ExportUnit, _: SharedStore) -> Exported:
        from airflow_provider_milvusdm.targets.hdf5.export import export_partition

        exported = export_partition(unit)
        self.log.info("%s: %d rows in %.1f s", exported.path, exported.rows, exported.seconds)
        return exported


class Hdf5VerifyOperator(CollectionVerifyOperator):
    """Read a collection's files, and compare every byte with what was written.

    :param exported: what the export tasks returned.
    :param plan_only: nothing was exported; report what would have been.
    """

    template_fields: Sequence[str] = (*CollectionVerifyOperator.template_fields, "exported", "plan_only")

    def __init__(self, *, exported: Any, plan_only: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exported, self.plan_only = exported, plan_only

    @property
    def passed_on(self) -> Sequence[Any]:
        return (self.exported,)

    @contextmanager
    def prepared(self, context: Context) -> Iterator[MemberStep]:
        from airflow_provider_milvusdm.targets.hdf5.export import export_units
        from airflow_provider_milvusdm.targets.hdf5.verify import planned_export, verify_export

        exported = self.results(context, self.exported, Exported, lambda file: file.collection)
        faults, changes = self.step_faults(context), self.source_changes(context)

        def verify(plan: CollectionPlan, _: SharedStore) -> CollectionReport:
            if parse_argument(self.plan_only):
                return planned_export(plan)
            units = {unit.digest for unit in export_units([plan], Path())}
            texts = [fault.fault for fault in faults.get(plan.name, ()) if fault.unit in units]
            return verify_export(plan, exported.get(plan.name, []), texts, changes.get(plan.name, []))

        yield MemberStep(verify)
