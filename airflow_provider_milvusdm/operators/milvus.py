"""Steps for Milvus 2.x: create a collection, list its load units, load them, verify it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from airflow_provider_milvusdm.config.target_settings import CollectionSettings, TargetSettings
from airflow_provider_milvusdm.config.validation import read_params
from airflow_provider_milvusdm.exceptions import ConfigurationError, TargetError
from airflow_provider_milvusdm.hooks.object_storage import open_import_store
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, Fault, Foreseen, Loaded, from_json
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.done import SharedStore
from airflow_provider_milvusdm.operators.group import GroupOperator, MemberStep, Pending, push_units
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.target import TargetOperator
from airflow_provider_milvusdm.operators.verify import CollectionVerifyOperator
from airflow_provider_milvusdm.operators.xcom import Reference, pull_all
from airflow_provider_milvusdm.progress import count_of, expect_rows
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport
from airflow_provider_milvusdm.triggers.milvus import MilvusImportTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore
    from airflow_provider_milvusdm.targets.milvus.runs import Runs

FIRST_UNITS = "begun"
"""Key in the task state of a load task: the digests of the units that the first attempt took."""
WAITING = 16
"""Collections that are created, or verified, at once: a server flushes, indexes and loads each for seconds."""
WRITING = 4
"""Units that are loaded at once; each has its own requests in flight, and so much of its rows in memory."""


class MilvusOperator(TargetOperator, GroupOperator):
    """A step that connects to Milvus 2.x, for each member of a group."""

    def import_store(self) -> ImportStore | None:
        """Where the target reads the files of bulk imports; None if its connection has no ``import_url``."""
        url = self.hook.import_url
        return open_import_store(url) if url else None

    @contextmanager
    def connected(
        self, run: Callable[[MilvusClient, Any, SharedStore], Any], at_once: int, *, plan_only: bool = False
    ) -> Iterator[MemberStep]:
        """The step of one member with a client; no more than one member is at it if the target works on one request.

        A process uses a Milvus Lite file alone, and the members of a group share the client.
        """
        from airflow_provider_milvusdm.targets.milvus.server.capabilities import serves_requests_concurrently

        def run_explained(client: MilvusClient, member: Any, store: SharedStore) -> Any:
            with self.hook.explained_errors():
                return run(client, member, store)

        with self.hook.client(plan_only=plan_only) as client:
            side_by_side = len(self.members) > 1 and serves_requests_concurrently(client)
            yield MemberStep(partial(run_explained, client), at_once if side_by_side else 1)


class MilvusCreateCollectionOperator(MilvusOperator):
    """Prepare the target of collections; a target that does not fit is refused before anything changes.

    :param collections: one of the groups of plans of :class:`PlanOperator`.
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
    :param approval: nothing is changed without an approved plan.
    :param approved: what :class:`ApprovePlanOperator` returned; anything else that would lose rows is refused. None:
        nobody was asked.
    """

    template_fields: Sequence[str] = (
        *MilvusOperator.template_fields,
        "approval",
        "approved",
        "collections",
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
    member_type = CollectionPlan

    def __init__(
        self,
        *,
        collections: Any,
        mode: str = "skip",
        overwrite: str = "swap",
        take_over: bool | str = False,
        max_deletions: float | str = 0.1,
        id_scope: str = "collection",
        load_method: str = "insert",
        create_index: bool | str = True,
        target: Mapping[str, Any] | str | None = None,
        plan_only: bool | str = False,
        approval: bool | str = False,
        approved: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collections, self.approval, self.approved = collections, approval, approved
        self.mode, self.overwrite, self.take_over = mode, overwrite, take_over
        self.max_deletions, self.id_scope = max_deletions, id_scope
        self.load_method, self.create_index, self.target = load_method, create_index, target
        self.plan_only = plan_only

    @property
    def group(self) -> Any:
        return self.collections

    @contextmanager
    def prepared(self, context: Context) -> Iterator[MemberStep]:
        from airflow_provider_milvusdm.operators.runs import AirflowRuns

        runs = AirflowRuns(context, take_over=parse_argument(self.take_over))
        import_store = self.import_store() if self.load_method != "insert" else None
        at_once = 1 if import_store else WAITING
        approved = self._pull_approved(context)
        if approved is not None:
            self.log.info("the plan was approved for %s", self.address)
        with self.connected(
            partial(self._create, runs, import_store, approved), at_once, plan_only=parse_argument(self.plan_only)
        ) as step:
            yield step

    def refuse_edits(self, context: Context) -> None:
        """What an approved plan says is compared with what is done instead."""
        if self.approved is None:
            super().refuse_edits(context)

    def _pull_approved(self, context: Context) -> Mapping[str, Foreseen] | None:
        """The approved plan of each collection by name; None if nobody was asked.

        Raises ConfigurationError if somebody should have been asked.
        """
        if self.approved is None:
            if parse_argument(self.approval) and not parse_argument(self.plan_only):
                raise ConfigurationError(
                    "no plan was approved, and approval is true",
                    expected="the plan that the task before this one returns",
                    found="none: that task was marked as successful by hand, or its XCom was deleted",
                    cure="Nothing was changed. Start a new run and approve its plan.",
                )
            return None
        found = pull_all(context["ti"], self.approved, {self.input_id})
        return {foreseen.name: foreseen for foreseen in (from_json(Foreseen, values) for values in found)}

    def _create(
        self,
        runs: Runs,
        import_store: ImportStore | None,
        approved: Mapping[str, Foreseen] | None,
        client: MilvusClient,
        plan: CollectionPlan,
        store: SharedStore,
    ) -> CreatedCollection | None:
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import check_import
        from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
        from airflow_provider_milvusdm.targets.plan import refuse_unsaved

        prepare = partial(
            create_collection,
            client,
            plan,
            self.mode,
            _settings(self.target, plan.name),
            create_index=parse_argument(self.create_index),
            in_place=self.overwrite == "in_place",
            max_deletions=float(self.max_deletions),
            runs=runs,
            id_scope=self.id_scope,
            is_approved=approved is not None,
            store=store if self.source else None,
            step_input=self.source,
        )
        if plan.refused:
            raise ConfigurationError(plan.error)
        if plan.error:  # a task before the plan failed for it
            return None
        if not parse_argument(self.plan_only):
            refuse_unsaved(plan)
        check_import(client, self.load_method, import_store, plan)
        if approved is None:
            created = prepare(plan_only=parse_argument(self.plan_only))
        else:
            foreseen = self.foresee(plan, prepare(plan_only=True))
            _refuse_unapproved(approved.get(plan.name), foreseen)
            created = prepare(approved_loss=foreseen.lost)  # the target may have changed since it was foreseen
            aliased = foreseen.aliased if foreseen.alias else foreseen.target
            created = replace(created, approved_aliased=aliased)
        self.log.info("%s -> %s: %s", plan.name, plan.target.name, created.action)
        return created

    def foresee(self, plan: CollectionPlan, created: CreatedCollection) -> Foreseen:
        """What would be done to the target, by what was created with ``plan_only``."""
        return foresee(plan, created, self.address, in_place=self.overwrite == "in_place")


def foresee(plan: CollectionPlan, created: CreatedCollection, address: str = "", *, in_place: bool = False) -> Foreseen:
    """What would be done to the target at this address, by what the create step says with ``plan_only``."""
    return Foreseen(
        plan.name,
        plan.target.name,
        plan.fingerprint,
        created.action,
        plan.rows if created.action.effect.loads_rows else 0,
        created.lost,
        created.existing,
        created.has_begun,
        {tag: name for tag, name in plan.partition_names.items() if tag != name},
        created.alias,
        created.aliased,
        address,
        in_place and created.action is Action.OVERWRITTEN,
    )


def _refuse_unapproved(approved: Foreseen | None, foreseen: Foreseen) -> None:
    if approved is None or not approved.covers(foreseen):
        raise TargetError(
            f"collection {foreseen.target!r} is not as it was when the plan was approved",
            expected=_describe(approved) if approved else "a collection that was in the plan",
            found=_describe(foreseen),
            cure="This attempt changed nothing. Start a new run, which asks again.",
        )


def _describe(foreseen: Foreseen) -> str:
    lost = "an unknown number of rows" if foreseen.lost is None else count_of(foreseen.lost, "row")
    alias = f", alias {foreseen.alias} of {foreseen.aliased or 'no collection'}" if foreseen.alias else ""
    return f"{foreseen.action or foreseen.fault}, {lost} lost{alias}, in {foreseen.address}"


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

        instance = context["ti"]
        is_retry = instance.try_number > 1  # the load tasks of the first try may have taken other units

        def list_units(key: str, plans: Sequence[CollectionPlan]) -> Iterable[LoadUnit]:
            created = [from_json(CreatedCollection, made) for made in pull_all(instance, self.created, {key})]
            units = address_units(plans, created)
            expect_rows((unit.name, unit.stored_rows) for unit in units)
            return [replace(unit, upsert=unit.upsert or is_retry) for unit in units]

        return push_units(instance, self.collections, list_units)


class MilvusLoadOperator(MilvusOperator):
    """Load units: read their rows from the source, and insert them in batches or import them as files.

    A retry continues from the checkpoints in Airflow's task state, wherever the attempt before it was killed.

    :param units: one of the groups of units of :class:`MilvusUnitsOperator`.
    :param load_method: ``insert``; ``bulk_import``; or ``auto``, bulk import if the connection has an ``import_url``.
    :param deferrable: free the worker while the target imports files, which needs a triggerer. The default is option
        ``deferrable`` of section ``[milvusdm]`` in Airflow's configuration, or true.
    """

    template_fields: Sequence[str] = (*MilvusOperator.template_fields, "units", "load_method")
    member_type = LoadUnit

    def __init__(
        self,
        *,
        units: Any,
        load_method: str = "insert",
        deferrable: bool = conf.getboolean("milvusdm", "deferrable", fallback=True),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.load_method, self.deferrable = units, load_method, deferrable

    @property
    def group(self) -> Any:
        return self.units

    def unit_of(self, member: LoadUnit) -> str:
        return member.digest

    @contextmanager
    def prepared(self, context: Context) -> Iterator[MemberStep]:
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import NOTE

        store, try_number = SharedStore(context["task_state_store"]), context["ti"].try_number
        noted = try_number > 1 and any(store.of(number).get(NOTE) for number in range(len(self.members)))
        import_store = self.import_store() if self.load_method != "insert" or noted else None
        load = partial(self._load, self._first_units(store, try_number), import_store)
        with self.connected(load, 1 if import_store else WRITING) as step:
            yield step

    def _first_units(self, store: SharedStore, try_number: int) -> Sequence[str]:
        """Digests of the units that the first attempt took; none if its checkpoints are lost."""
        if try_number > 1:
            return store.get(FIRST_UNITS) or ()
        units = [unit.digest for unit in self.members]
        store.set(FIRST_UNITS, units)
        return units

    def _load(
        self,
        first_units: Sequence[str],
        import_store: ImportStore | None,
        client: MilvusClient,
        unit: LoadUnit,
        checkpoints: SharedStore,
    ) -> Loaded | Pending:
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import Waiting, load_unit_by

        unit = _unit_to_load(unit, first_units)
        loaded = load_unit_by(self.load_method, client, unit, checkpoints, import_store)
        if isinstance(loaded, Waiting):
            return Pending(loaded)
        self.log.info("%s: %s live rows in %.1f s", unit.label, sum(loaded.rows.values()), loaded.seconds)
        return loaded

    def wait(self, pending: Mapping[int, Pending]) -> None:
        """Wait for the import of one member; those of the others go on meanwhile."""
        number = min(pending)
        waiting = pending[number].reason
        if not self.deferrable:
            time.sleep(waiting.seconds)
            return
        target = self.members[number].target
        trigger = MilvusImportTrigger(
            jobs=waiting.jobs,
            collection=target.name if target else "",
            seconds=waiting.seconds,
            **self.hook_arguments,
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=2 * trigger.MAX_SECONDS))

    def resume(self, context: Context, event: Any) -> None:
        """Continue after the trigger has fired; the target tells how the import jobs ended."""
        self.execute(context)


def _unit_to_load(unit: LoadUnit, first_units: Collection[str]) -> LoadUnit:
    """The unit; a retry upserts its rows if the checkpoints of the first attempt are lost or of another unit.

    Rows whose ids the target makes can't be upserted, and need not be if no attempt began.
    """
    has_begun = bool(first_units) or not (unit.target and unit.target.ids_by_target)
    return replace(unit, upsert=True) if has_begun and unit.digest not in first_units else unit


class MilvusVerifyOperator(CollectionVerifyOperator, MilvusOperator):
    """Create the index of collections, load them, and compare them with the source; fails if one differs.

    :param collections: one of the groups of plans of :class:`PlanOperator`.
    :param created: what the create tasks left under ``result``.
    :param loaded: what the load tasks left under ``result``.
    :param faults: what the create and load tasks that failed left under ``fault``.
    :param verify: ``full`` compares all rows bit for bit, and a retry continues from its checkpoint; ``sample`` counts
        all rows and compares a sample of them; ``counts`` only counts them; ``none`` does nothing.
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

    @property
    def passed_on(self) -> Sequence[Any]:
        return self.created, self.loaded

    @contextmanager
    def prepared(self, context: Context) -> Iterator[MemberStep]:
        created = self.results(context, self.created, CreatedCollection, lambda made: made.name)
        loaded = self.results(context, self.loaded, Loaded, lambda load: load.collection)
        found = created, loaded, self.step_faults(context), self.source_changes(context)
        import_store = self.import_store() if self.load_method != "insert" else None
        since = f"since {self.list_tries(context['ti'])[0]} {context['ti'].max_tries}"
        verify = partial(self._verify, *found, import_store, since)
        if not created:  # there is nothing to ask for
            yield MemberStep(partial(verify, "", None))
            return
        plan_only = any(made.plan_only for of_name in created.values() for made in of_name)
        at_once = 1 if import_store else WAITING
        with self.connected(partial(verify, self.address), at_once, plan_only=plan_only) as step:
            yield step

    def _verify(
        self,
        created: Mapping[str, Sequence[CreatedCollection]],
        loaded: Mapping[str, Sequence[Loaded]],
        faults: Mapping[str, Sequence[Fault]],
        changes: Mapping[str, Sequence[str]],
        import_store: ImportStore | None,
        since: str,
        address: str,
        client: MilvusClient,
        plan: CollectionPlan,
        checkpoints: SharedStore,
    ) -> CollectionReport:
        from airflow_provider_milvusdm.targets.milvus.load.bulk_import import remove_leftovers
        from airflow_provider_milvusdm.targets.milvus.units import collection_units
        from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
        from airflow_provider_milvusdm.targets.milvus.verify.search import SearchCheck

        made = next(iter(created.get(plan.name, ())), None)
        units = {unit.digest for unit in collection_units(plan, made)} if made else set()
        report = verify_collection(
            client,
            plan,
            made,
            loaded.get(plan.name, ()),
            [fault.fault for fault in faults.get(plan.name, ()) if fault.unit in {"", *units}],
            changes.get(plan.name, ()),
            settings=_settings(self.target, plan.name),
            verify=self.verify,
            create_index=parse_argument(self.create_index),
            search=SearchCheck(
                int(self.verify_search), float(self.search_recall), parse_argument(self.search_params) or {}
            ),
            store=checkpoints,
            compared=checkpoints.of(since),  # a task that is cleared compares everything
            step_input=self.source,
        )
        if report.status == VERIFIED and import_store:
            remove_leftovers(client, import_store, plan)
        return replace(report, address=address)


def _settings(target: Mapping[str, Any] | str | None, collection: str) -> CollectionSettings:
    """The settings of one collection, from the operators' argument ``target``."""
    return read_params(TargetSettings, parse_argument(target) or {}).of(collection)
