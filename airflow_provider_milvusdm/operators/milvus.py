"""Steps that make, fill and verify the target."""

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
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, from_json, parse_text, to_json
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.operators.base import (
    CollectionOperator,
    CollectionVerifyOperator,
    MigrationOperator,
    MilvusOperator,
)
from airflow_provider_milvusdm.operators.xcom import Reference, hand_out, keys_of, pull_all
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport
from airflow_provider_milvusdm.triggers.milvus import MilvusImportTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_milvusdm.targets.milvus.load.bulk_import import Waiting


BEGUN = "begun"
"""What unit the first attempt of a load task was of."""


def settings_of(target: Mapping[str, Any] | str | None, collection: str) -> CollectionSettings:
    """The settings of one collection, from the operators' argument ``target``."""
    return read_params(TargetSettings, parse_text(target) or {}).of(collection)


class MilvusCreateCollectionOperator(CollectionOperator, MilvusOperator):
    """Make the target of one collection ready, or refuse before anything is touched.

    :param collection: one of the plans of :class:`PlanOperator`.
    :param mode: ``skip``, ``append``, ``overwrite`` or ``sync``: acts only where the target exists; ``abandon`` undoes
        what a run left half done.
    :param overwrite: ``swap`` drops the old collection once the new one is verified, ``in_place`` before it is loaded.
    :param take_over: go on with what another run left, where nobody can tell whether that has ended.
    :param max_deletions: the share of the rows in the target that ``sync`` may delete; one that would delete more is
        refused.
    :param id_scope: ``collection`` refuses rows that share an id in different partitions with different vectors, those
        that are there included; ``partition`` does not.
    :param verify: as of :class:`MilvusVerifyOperator`; by ``full`` a ``sync`` compares all vectors.
    :param load_method: of :class:`MilvusLoadOperator`; refused here where the target can't do it.
    :param create_index: leave the collection indexed and loaded.
    :param target: settings of the target, see :mod:`airflow_provider_milvusdm.config.target_settings`.
    :param plan_only: touch nothing, say what would be done.
    """

    template_fields: Sequence[str] = (
        *MilvusOperator.template_fields,
        *CollectionOperator.template_fields,
        "mode",
        "overwrite",
        "take_over",
        "max_deletions",
        "id_scope",
        "verify",
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
        verify: str = "full",
        load_method: str = "insert",
        create_index: bool | str = True,
        target: Mapping[str, Any] | str | None = None,
        plan_only: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mode, self.id_scope, self.verify, self.create_index = mode, id_scope, verify, create_index
        self.overwrite, self.take_over = overwrite, take_over
        self.max_deletions = max_deletions
        self.target, self.plan_only = target, plan_only
        self.load_method = load_method

    def step(self, context: Context) -> Reference:
        from airflow_provider_milvusdm.operators.runs import AirflowRuns
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import check_import
        from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection

        plan = from_json(CollectionPlan, self.collection)
        if plan.error:
            raise AirflowSkipException(plan.error)
        settings, dry_run = settings_of(self.target, plan.name), parse_text(self.plan_only)
        imports = self.import_store() if self.load_method != "insert" else None
        with self.hook.client(plan_only=dry_run) as client:
            check_import(client, self.load_method, imports, plan)
            created = create_collection(
                client,
                plan,
                self.mode,
                settings,
                create_index=parse_text(self.create_index),
                in_place=self.overwrite == "in_place",
                repair=self.verify == "full",
                max_deletions=float(self.max_deletions),
                dry_run=dry_run,
                runs=AirflowRuns(context, take_over=parse_text(self.take_over)),
                id_scope=self.id_scope,
            )
        self.log.info("%s -> %s: %s", plan.name, plan.target.name, created.action)
        return self.hand_in(context, to_json(created))


class MilvusUnitsOperator(MigrationOperator):
    """The load units of the collections that were created; mapped over by :class:`MilvusLoadOperator`.

    :param collections: what :class:`PlanOperator` returned.
    :param created: what the create tasks returned.
    """

    template_fields: Sequence[str] = ("collections", "created")

    def __init__(self, *, collections: Any, created: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections, self.created = collections, created

    def step(self, context: Context) -> list[Reference]:
        from airflow_provider_milvusdm.targets.milvus.units import address_units

        instance, planned = context["ti"], keys_of(self.collections)
        units = address_units(
            [from_json(CollectionPlan, plan) for plan in pull_all(instance, self.collections)],
            [from_json(CreatedCollection, created) for created in pull_all(instance, self.created, planned)],
        )
        again = instance.try_number > 1  # the load tasks of the first time may have been of other units
        return hand_out(instance, (to_json(replace(unit, upsert=unit.upsert or again)) for unit in units))


class MilvusLoadOperator(MilvusOperator):
    """Load one unit: its rows are read from the source and written in batches, or imported from files.

    Killed anywhere and tried again, it goes on from its checkpoint in Airflow's task state.

    :param unit: one of the units of :class:`MilvusUnitsOperator`.
    :param load_method: ``insert``, ``bulk_import``, or ``auto``: the latter where the connection has an import_url.
    :param deferrable: hold no worker while the target imports; without, that is option ``deferrable`` of section
        ``[milvusdm]`` of Airflow's configuration, else true. It takes a triggerer.
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
    def answers(self) -> str:
        return from_json(LoadUnit, self.unit).digest

    def step(self, context: Context) -> Reference:
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import NOTE, Waiting, load_unit_by

        unit, notes = from_json(LoadUnit, self.unit), context["task_state_store"]
        store = self.import_store() if self.load_method != "insert" or notes.get(NOTE) else None
        begun = notes.get(BEGUN)
        if context["ti"].try_number == 1:
            notes.set(BEGUN, unit.digest)
        elif begun != unit.digest and (begun or not _makes_ids(unit)):
            unit = replace(unit, upsert=True)  # what the attempts before it noted is lost, or of another unit
        with self.hook.client() as client:
            while isinstance(loaded := load_unit_by(self.load_method, client, unit, notes, store), Waiting):
                if self.deferrable:
                    self._defer(unit, loaded)
                time.sleep(loaded.seconds)
        self.log.info("%s: %s live rows in %.1f s", unit.label, sum(loaded.rows.values()), loaded.seconds)
        return self.hand_in(context, to_json(loaded))

    def _defer(self, unit: LoadUnit, waiting: Waiting) -> NoReturn:
        collection = unit.target.name if unit.target else ""
        trigger = MilvusImportTrigger(
            jobs=waiting.jobs, collection=collection, seconds=waiting.seconds, **self.hook_arguments
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=2 * trigger.MAX_SECONDS))

    def resume(self, context: Context, event: Any) -> Any:
        """Go on after the trigger has fired: how the jobs ended is asked of the target."""
        return self.execute(context)


class MilvusVerifyOperator(CollectionVerifyOperator, MilvusOperator):
    """Index, load, count and compare one collection; fails when it is not what was read.

    :param collection: one of the plans of :class:`PlanOperator`.
    :param created: what the create tasks returned.
    :param loaded: what the load tasks returned.
    :param faults: what the create and load tasks that failed left under ``fault``.
    :param verify: ``none``, ``counts``, ``sample`` (rows are read back and compared bit for bit, too) or ``full`` (all
        are; tried again, it goes on from its checkpoint).
    :param verify_search: how many vectors of the source to search in the target; 0: none.
    :param search_recall: the recall below which verification fails.
    :param search_params: params of the search, such as ``{"nprobe": 64}``.
    :param load_method: of :class:`MilvusLoadOperator`; files that imports left behind are removed.
    :param create_index: leave the collection indexed and loaded.
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
        verify: str = "full",
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
        loads = [from_json(Loaded, one) for one in self.results(context, self.loaded, units)]
        faults = self.found_faults(context, {self.taken, *units})
        with self._client(created) as client:
            report = verify_collection(
                client,
                plan,
                created,
                loads,
                faults,
                changes,
                settings=settings_of(self.target, plan.name),
                verify=self.verify,
                create_index=parse_text(self.create_index),
                search=SearchCheck(
                    int(self.verify_search), float(self.search_recall), parse_text(self.search_params) or {}
                ),
                store=context["task_state_store"],
            )
            if report.status == VERIFIED and self.load_method != "insert" and (imports := self.import_store()):
                remove_leftovers(imports, plan)
        return report

    def _created(self, context: Context) -> CreatedCollection | None:
        found = self.results(context, self.created, {self.taken})
        return from_json(CreatedCollection, found[0]) if found else None

    def _client(self, created: CreatedCollection | None) -> AbstractContextManager[Any]:
        """A client, where there is something to ask it for."""
        return self.hook.client(plan_only=created.plan_only) if created else nullcontext()


def _makes_ids(unit: LoadUnit) -> bool:
    """Whether the target makes the ids: nothing could be upserted, and where no attempt began there is no need."""
    return unit.target is not None and unit.target.ids_by_target
