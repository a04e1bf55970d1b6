"""Steps for Milvus 2.x: create a collection, list its load units, load them, verify it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_milvusdm.config.target_settings import CollectionSettings, TargetSettings
from airflow_provider_milvusdm.config.validation import read_params
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.hooks.object_storage import open_import_store
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, from_json, to_json
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.operators.base import (
    CollectionOperator,
    CollectionVerifyOperator,
    MigrationOperator,
)
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.xcom import Reference, list_keys, pull_all, push_all
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport
from airflow_provider_milvusdm.triggers.milvus import MilvusImportTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
    from airflow_provider_milvusdm.targets.milvus.load.bulk_import import Waiting
    from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore

FIRST_UNIT = "begun"
"""Key in the task state: the digest of the load unit that the first attempt took."""


class MilvusOperator(MigrationOperator):
    """A step that connects to Milvus 2.x.

    :param milvus_conn_id: connection to Milvus 2.x.
    :param dest_host: replaces the connection's host.
    :param dest_port: replaces the connection's port.
    :param dest_uri: replaces host and port; a path is a Milvus Lite file.
    """

    template_fields: Sequence[str] = ("milvus_conn_id", "dest_host", "dest_port", "dest_uri")

    def __init__(
        self,
        *,
        milvus_conn_id: str = MilvusHook.default_conn_name,
        dest_host: str | None = None,
        dest_port: int | str | None = None,
        dest_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.milvus_conn_id = milvus_conn_id
        self.dest_host, self.dest_port, self.dest_uri = dest_host, dest_port, dest_uri

    @property
    def hook(self) -> MilvusHook:
        return MilvusHook(**self.hook_arguments)

    @property
    def hook_arguments(self) -> dict[str, Any]:
        """Arguments of :class:`MilvusHook`; they hold no secrets."""
        return {
            "milvus_conn_id": self.milvus_conn_id,
            "host": self.dest_host or None,
            "port": int(self.dest_port) if self.dest_port else None,
            "uri": self.dest_uri or None,
        }

    def import_store(self) -> ImportStore | None:
        """Where the target reads the files of bulk imports; None if its connection has no ``import_url``."""
        url = self.hook.import_url
        return open_import_store(url) if url else None


class MilvusCreateCollectionOperator(CollectionOperator, MilvusOperator):
    """Prepare the target of one collection; a target that does not fit is refused before anything changes.

    :param collection: one of the plans of :class:`PlanOperator`.
    :param mode: what to do if the target exists: ``skip``, ``append``, ``overwrite`` or ``sync``. ``abandon`` loads
        nothing, and undoes what an interrupted run left.
    :param overwrite: ``swap`` drops the old collection after the new one is verified, ``in_place`` before it is loaded.
    :param take_over: continue what another run left half loaded, if it is unknown whether that run has ended.
    :param max_deletions: the largest share of the target's rows that ``sync`` may delete; a ``sync`` that would delete
        more is refused.
    :param id_scope: ``collection`` refuses rows that have the same id in different partitions, with different vectors,
        in the source and in the target together; ``partition`` accepts them.
    :param load_method: as of :class:`MilvusLoadOperator`; refused here if the target doesn't support it.
    :param create_index: create the index and load the collection.
    :param target: settings of the target, see :mod:`airflow_provider_milvusdm.config.target_settings`.
    :param plan_only: change nothing, and report what would be done.
    """

    template_fields: Sequence[str] = (
        *MilvusOperator.template_fields,
        *CollectionOperator.template_fields,
        "mode",
        "overwrite",
        "take_over",
        "max_deletions",
        "id_scope",
        "load_method",
        "create_index",
        "target",
        "plan_only",
    )

    def __init__(
        self,
        *,
        mode: str = "skip",
        overwrite: str = "swap",
        take_over: bool | str = False,
        max_deletions: float | str = 0.1,
        id_scope: str = "collection",
        load_method: str = "insert",
        create_index: bool | str = True,
        target: Mapping[str, Any] | str | None = None,
        plan_only: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mode, self.overwrite, self.take_over = mode, overwrite, take_over
        self.max_deletions, self.id_scope = max_deletions, id_scope
        self.load_method, self.create_index, self.target = load_method, create_index, target
        self.plan_only = plan_only

    def step(self, context: Context) -> Reference:
        from airflow_provider_milvusdm.operators.runs import AirflowRuns
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import check_import
        from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection

        plan = from_json(CollectionPlan, self.collection)
        if plan.error:  # red where it was found: a task before the plan failed for it, or else this one does
            raise (ConfigurationError if plan.refused else AirflowSkipException)(plan.error)
        plan_only = parse_argument(self.plan_only)
        import_store = self.import_store() if self.load_method != "insert" else None
        with self.hook.client(plan_only=plan_only) as client:
            check_import(client, self.load_method, import_store, plan)
            created = create_collection(
                client,
                plan,
                self.mode,
                _settings(self.target, plan.name),
                create_index=parse_argument(self.create_index),
                in_place=self.overwrite == "in_place",
                max_deletions=float(self.max_deletions),
                plan_only=plan_only,
                runs=AirflowRuns(context, take_over=parse_argument(self.take_over)),
                id_scope=self.id_scope,
            )
        self.log.info("%s -> %s: %s", plan.name, plan.target.name, created.action)
        return self.push_result(context, to_json(created))


class MilvusUnitsOperator(MigrationOperator):
    """List the load units of the collections that were created, for :class:`MilvusLoadOperator` to map over.

    :param collections: what :class:`PlanOperator` returned.
    :param created: what the create tasks returned.
    """

    template_fields: Sequence[str] = ("collections", "created")

    def __init__(self, *, collections: Any, created: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections, self.created = collections, created

    def step(self, context: Context) -> list[Reference]:
        from airflow_provider_milvusdm.targets.milvus.units import address_units

        instance, keys = context["ti"], list_keys(self.collections)
        units = address_units(
            [from_json(CollectionPlan, plan) for plan in pull_all(instance, self.collections)],
            [from_json(CreatedCollection, created) for created in pull_all(instance, self.created, keys)],
        )
        is_retry = instance.try_number > 1  # the load tasks of the first try may have taken other units
        return push_all(instance, (to_json(replace(unit, upsert=unit.upsert or is_retry)) for unit in units))


class MilvusLoadOperator(MilvusOperator):
    """Load one unit: read its rows from the source, and insert them in batches or import them as files.

    A retry continues from the checkpoint in Airflow's task state, wherever the attempt before it was killed.

    :param unit: one of the units of :class:`MilvusUnitsOperator`.
    :param load_method: ``insert``; ``bulk_import``; or ``auto``, bulk import if the connection has an ``import_url``.
    :param deferrable: free the worker while the target imports files, which needs a triggerer. The default is option
        ``deferrable`` of section ``[milvusdm]`` in Airflow's configuration, or true.
    """

    template_fields: Sequence[str] = (*MilvusOperator.template_fields, "unit", "load_method")

    def __init__(
        self,
        *,
        unit: dict[str, Any],
        load_method: str = "insert",
        deferrable: bool = conf.getboolean("milvusdm", "deferrable", fallback=True),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.unit, self.load_method, self.deferrable = unit, load_method, deferrable

    @property
    def subject(self) -> str:
        return from_json(LoadUnit, self.unit).label

    @property
    def collection_name(self) -> str:
        return str(self.unit["collection"]["name"])

    @property
    def input_id(self) -> str:
        return from_json(LoadUnit, self.unit).digest

    def step(self, context: Context) -> Reference:
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import NOTE, Waiting, load_unit_by

        checkpoints = context["task_state_store"]
        unit = self._unit_to_load(context["ti"].try_number, checkpoints)
        import_store = self.import_store() if self.load_method != "insert" or checkpoints.get(NOTE) else None
        with self.hook.client() as client:
            while isinstance(
                loaded := load_unit_by(self.load_method, client, unit, checkpoints, import_store), Waiting
            ):
                if self.deferrable:
                    self._defer(unit, loaded)
                time.sleep(loaded.seconds)
        self.log.info("%s: %s live rows in %.1f s", unit.label, sum(loaded.rows.values()), loaded.seconds)
        return self.push_result(context, to_json(loaded))

    def _unit_to_load(self, try_number: int, checkpoints: CheckpointStore) -> LoadUnit:
        """The unit; a retry upserts its rows if the checkpoints of the first attempt are lost or of another unit.

        Rows whose ids the target makes can't be upserted, and need not be if no attempt began.
        """
        unit = from_json(LoadUnit, self.unit)
        first = checkpoints.get(FIRST_UNIT)
        if try_number == 1:
            checkpoints.set(FIRST_UNIT, unit.digest)
        elif first != unit.digest and (first or not (unit.target and unit.target.ids_by_target)):
            return replace(unit, upsert=True)
        return unit

    def _defer(self, unit: LoadUnit, waiting: Waiting) -> NoReturn:
        collection = unit.target.name if unit.target else ""
        trigger = MilvusImportTrigger(
            jobs=waiting.jobs, collection=collection, seconds=waiting.seconds, **self.hook_arguments
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=2 * trigger.MAX_SECONDS))

    def resume(self, context: Context, event: Any) -> Any:
        """Continue after the trigger has fired; the target tells how the import jobs ended."""
        return self.execute(context)


class MilvusVerifyOperator(CollectionVerifyOperator, MilvusOperator):
    """Create the index of one collection, load it, and compare it with the source; fails if it differs.

    :param collection: one of the plans of :class:`PlanOperator`.
    :param created: what the create tasks returned.
    :param loaded: what the load tasks returned.
    :param faults: what the create and load tasks that failed left under ``fault``.
    :param verify: ``none``; ``counts``; ``sample``, which also compares a sample of rows bit for bit; or ``full``,
        which compares all rows, and of which a retry continues from its checkpoint.
    :param verify_search: how many vectors of the source to search in the target; 0 for none.
    :param search_recall: the recall below which verification fails.
    :param search_params: params of the search, such as ``{"nprobe": 64}``.
    :param load_method: as of :class:`MilvusLoadOperator`; files that bulk imports left behind are removed.
    :param create_index: create the index and load the collection.
    :param target: settings of the target, see :mod:`airflow_provider_milvusdm.config.target_settings`.
    """

    template_fields: Sequence[str] = (
        *MilvusOperator.template_fields,
        *CollectionVerifyOperator.template_fields,
        "created",
        "loaded",
        "verify",
        "verify_search",
        "search_recall",
        "search_params",
        "load_method",
        "create_index",
        "target",
    )

    def __init__(
        self,
        *,
        created: Any,
        loaded: Any,
        verify: str = "sample",
        verify_search: int | str = 0,
        search_recall: float | str = 0.9,
        search_params: Mapping[str, Any] | str | None = None,
        load_method: str = "insert",
        create_index: bool | str = True,
        target: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.created, self.loaded = created, loaded
        self.verify, self.create_index, self.target = verify, create_index, target
        self.verify_search, self.search_recall, self.search_params = verify_search, search_recall, search_params
        self.load_method = load_method

    def report(self, plan: CollectionPlan, changes: Sequence[str], context: Context) -> CollectionReport:
        from airflow_provider_milvusdm.manifests import Loaded
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import remove_leftovers
        from airflow_provider_milvusdm.targets.milvus.units import collection_units
        from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
        from airflow_provider_milvusdm.targets.milvus.verify.search import SearchCheck

        created = self._created(context)
        units = {unit.digest for unit in collection_units(plan, created)} if created else set()
        loads = [from_json(Loaded, loaded) for loaded in self.results(context, self.loaded, units)]
        faults = self.step_faults(context, {self.input_key, *units})
        with self._client(created) as client:
            report = verify_collection(
                client,
                plan,
                created,
                loads,
                faults,
                changes,
                settings=_settings(self.target, plan.name),
                verify=self.verify,
                create_index=parse_argument(self.create_index),
                search=SearchCheck(
                    int(self.verify_search), float(self.search_recall), parse_argument(self.search_params) or {}
                ),
                store=context["task_state_store"],
            )
            if report.status == VERIFIED and self.load_method != "insert" and (store := self.import_store()):
                remove_leftovers(store, plan)
        return report

    def _created(self, context: Context) -> CreatedCollection | None:
        results = self.results(context, self.created, {self.input_key})
        return from_json(CreatedCollection, results[0]) if results else None

    def _client(self, created: CreatedCollection | None) -> AbstractContextManager[Any]:
        """A client; None if the collection was not created, so that there is nothing to ask for."""
        return self.hook.client(plan_only=created.plan_only) if created else nullcontext()


def _settings(target: Mapping[str, Any] | str | None, collection: str) -> CollectionSettings:
    """The settings of one collection, from the operators' argument ``target``."""
    return read_params(TargetSettings, parse_argument(target) or {}).of(collection)
