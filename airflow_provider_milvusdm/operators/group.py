"""A step for each member of a group: small inputs share a task, and each has a result or a fault of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_provider_milvusdm.exceptions import TransientError
from airflow_provider_milvusdm.hooks.object_storage import open_url
from airflow_provider_milvusdm.manifests import CollectionPlan, Fault, PartitionGroup, from_json, to_json
from airflow_provider_milvusdm.model.groups import MEMBERS, group_small
from airflow_provider_milvusdm.operators.base import FAULT, FINAL, MigrationOperator, cut_label, describe
from airflow_provider_milvusdm.operators.done import ONE_REQUEST, DoneMembers, Outcome, SharedStore
from airflow_provider_milvusdm.operators.notes import ProgressNotes
from airflow_provider_milvusdm.operators.overview import OVERVIEW, overview
from airflow_provider_milvusdm.operators.runs import tell_queue
from airflow_provider_milvusdm.operators.xcom import (
    Reference,
    input_of,
    is_reference,
    list_values,
    pull,
    push_group,
)
from airflow_provider_milvusdm.progress import watch_progress
from airflow_provider_milvusdm.storage.paths import open_urls_with

if TYPE_CHECKING:
    from airflow.sdk import Context

RESULT = "result"
"""XCom key of the results of a group; a task that failed has results too, of the members that did not fail."""
Member = TypeVar("Member")
NAMED = 5
"""Names in the error of a task, at most."""
JOINED_FAULTS = 20
"""Of one collection in a manifest or a report."""


@dataclass(frozen=True)
class Pending:
    """What a member's step returns that is to be repeated once something has happened elsewhere."""

    reason: Any


@dataclass(frozen=True)
class MemberStep:
    """The step of one member, and how many members may be at it at the same time.

    ``run`` gets the member and a store for checkpoints of its own. It returns the result, None if there is nothing to
    do, or :class:`Pending`.
    """

    run: Callable[[Any, SharedStore], Any]
    at_once: int = 1


class MappedMigrationOperator(MigrationOperator):
    """A step that is mapped over groups of manifests."""

    member_type: ClassVar[type[Any]]
    """The manifest of a member. It has a ``name``, that of its collection, and a ``label``."""
    pulled: Sequence[Mapping[str, Any]] | None = None

    @property
    @abstractmethod
    def group(self) -> Any:
        """The group of manifests that the task was given, or the reference to it."""

    @cached_property
    def members(self) -> list[Any]:
        values = self.group if self.pulled is None else self.pulled
        return [from_json(self.member_type, value) for value in values]

    @property
    def input_id(self) -> str:
        """Identifies the input of the task; later steps ignore the results of any other input."""
        return input_of(self.group)

    @property
    def label(self) -> str:
        """The map index: what the task works on, for people to read, as long as Airflow allows."""
        first, last = self.members[0], self.members[-1]
        names = list(dict.fromkeys(member.name for member in self.members))
        if len(names) > 1:
            return cut_label(f"{names[0]} … {names[-1]} ({len(names)} collections)")
        return cut_label(first.label if first is last else f"{first.label} … {last.label}")

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Any = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Pull the group before the map index is rendered, which is made of its members."""
        if is_reference(content):
            self.pulled = pull(context["ti"], content)
        return super().render_template(content, context, jinja_env, seen_oids)


class GroupOperator(MappedMigrationOperator):
    """A step for each member of a group; a large input is the only member of its group.

    A fault of one member does not stop the others: the task fails once all have ended. A retry does not repeat members
    that were done, or that failed with a final error. Results are pushed to XCom under ``result``, faults under
    ``fault``.
    """

    @abstractmethod
    def prepared(self, context: Context) -> AbstractContextManager[MemberStep]:
        """The step of one member; what all members share, such as a client, is there for the block."""

    def fault_of(self, result: Any) -> str:
        """Why the task fails though a member has this result; empty if it does not fail."""
        return ""

    def unit_of(self, member: Any) -> str:
        """What identifies a member in its :class:`Fault`, if not its collection alone."""
        return ""

    def log_results(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Log the results, which are manifests as JSON."""

    def wait(self, pending: Mapping[int, Pending]) -> None:
        """Return, or defer the task, until the steps of these members, by their numbers, should be repeated."""
        raise NotImplementedError

    @cached_property
    def source(self) -> str:
        """Identifies all that the outcomes depend on; a retry reuses those of the same source only.

        It may need XComs, which only the main thread can pull: :meth:`step` reads it first.
        """
        return str(self.group["xcom"]) if is_reference(self.group) else ""

    def execute(self, context: Context) -> None:
        open_urls_with(_open_url)
        try:
            self.step(context)
        except (AirflowFailException, AirflowSkipException):
            raise
        except Exception:
            tell_queue(context)
            raise

    def step(self, context: Context) -> None:
        """Run the step of each member, push the results and faults, and fail if there is a fault."""
        instance, store = context["ti"], SharedStore(context["task_state_store"])
        source = f"{self.source} {instance.max_tries}"  # which changes if the task is cleared
        done = DoneMembers(store, self.list_tries(instance), source, len(self.members))
        if len(self.members) > 1:
            done.read()
        try:
            self._run_members(context, store, done)
        except Exception as error:
            left = done.left(self.members)
            if not left:
                raise
            done.outcomes |= dict.fromkeys(left, _failed(error))
        if any(outcome.error for outcome in done.outcomes.values()):
            done.write()
        outcomes = [done.outcomes[number] for number in range(len(self.members))]
        self.log_results([outcome.result for outcome in outcomes if outcome.result is not None])
        self._push(instance, outcomes)
        self._raise_faults(outcomes)

    def _run_members(self, context: Context, store: SharedStore, done: DoneMembers) -> None:
        left = done.left(self.members)
        if not left:
            return
        self.refuse_edits(context)
        with self.prepared(context) as step, watch_progress(ProgressNotes(store, context["ti"].max_tries)):
            while left:
                pending = {}
                with closing(self._run_each(step, left, store)) as ends:
                    for number, ended in ends:
                        if isinstance(ended, Pending):
                            pending[number] = ended
                        else:
                            done.add(number, ended)
                            self._log_end(done, number)
                left = done.left(self.members)
                if left:
                    done.write_all()
                    self.wait(pending)

    def _log_end(self, done: DoneMembers, number: int) -> None:
        if len(self.members) > 1:
            end = "failed" if done.outcomes[number].fault else "done"
            self.log.info("%s: %s, %d of %d", self.members[number].label, end, len(done.outcomes), len(self.members))

    def _run_each(
        self, step: MemberStep, members: Mapping[int, Any], store: SharedStore
    ) -> Generator[tuple[int, Outcome | Pending]]:
        """Run the step of each member; yields how each ended, by its number, as soon as it has."""
        if step.at_once == 1 or len(members) == 1:
            for number, member in members.items():
                yield number, self._run_member(step, member, store.of(number))
            return
        threads = ThreadPoolExecutor(min(step.at_once, len(members)))
        try:
            futures = {
                threads.submit(self._run_member, step, member, store.of(number)): number
                for number, member in members.items()
            }
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # after an interruption nobody waits for them: the client is closed, and they fail
            threads.shutdown(wait=False, cancel_futures=True)

    def _run_member(self, step: MemberStep, member: Any, store: SharedStore) -> Outcome | Pending:
        try:
            result = step.run(member, store)
        except Exception as error:
            if len(self.members) > 1:
                self.log.error("%s: %s", member.label, describe(error), exc_info=not isinstance(error, FINAL))
            return _failed(error)
        if isinstance(result, Pending):
            return result
        return Outcome() if result is None else Outcome(to_json(result), self.fault_of(result))

    def _push(self, instance: Any, outcomes: Sequence[Outcome]) -> None:
        results = [outcome.result for outcome in outcomes if outcome.result is not None]
        faults = [
            to_json(Fault(member.name, outcome.fault, self.unit_of(member)))
            for member, outcome in zip(self.members, outcomes, strict=True)
            if outcome.fault
        ]
        for key, manifests in ((RESULT, results), (FAULT, faults)):
            if manifests:
                instance.xcom_push(key=key, value=push_group(instance, manifests, self.input_id))

    def _raise_faults(self, outcomes: Sequence[Outcome]) -> None:
        error = next((outcome.error for outcome in outcomes if outcome.error), None)
        if error and len(outcomes) == 1:
            raise error
        failed = [member.name for member, outcome in zip(self.members, outcomes, strict=True) if outcome.fault]
        if not failed:
            if all(outcome.result is None for outcome in outcomes):
                raise AirflowSkipException("there is nothing to do")
            return
        if len(outcomes) == 1:
            raise AirflowFailException(outcomes[0].fault)
        more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        text = f"{len(failed)} of {len(outcomes)} failed: {', '.join(failed[:NAMED])}{more}; see the log above"
        if error:
            raise TransientError(text) from error
        raise AirflowFailException(text)


def _open_url(url: str) -> tuple[Any, str]:
    """Open a URL for one of several threads: its connection is a request to Airflow."""
    with ONE_REQUEST:
        return open_url(url)


def _failed(error: Exception) -> Outcome:
    return Outcome(fault=describe(error), error=None if isinstance(error, FINAL) else error)


def push_groups(instance: Any, members: Sequence[PartitionGroup | CollectionPlan]) -> list[Reference]:
    """Group manifests, push the groups, and return the references to map over.

    Members with an error are not grouped with others, so that their tasks are the only ones that fail.
    """
    unit_bytes = max((member.unit_bytes for member in members), default=0)
    groups = _group(members, lambda member: bool(member.error), unit_bytes)
    instance.xcom_push(key=OVERVIEW, value=[to_json(overview(member)) for member in members])
    return [push_group(instance, map(to_json, group)) for group in groups]


def push_units(
    instance: Any, collections: Any, list_units: Callable[[str, Sequence[CollectionPlan]], Iterable[Any]]
) -> list[Reference]:
    """Group the units of collections, push the groups, and return the references to map over.

    Units are only grouped if their collections are in one group: whoever verifies these needs no other results.

    :param collections: what the plan step returned.
    :param list_units: the units of a group of collections, given what identifies the group.
    """
    units: list[tuple[str, Any]] = []
    unit_bytes = 0
    for group in list_values(collections):
        plans = [from_json(CollectionPlan, plan) for plan in pull(instance, group)]
        unit_bytes = max(unit_bytes, *(plan.unit_bytes for plan in plans))
        units += [(input_of(group), unit) for unit in list_units(input_of(group), plans)]
    groups = _group(units, itemgetter(0), unit_bytes, lambda unit: int(unit[1].work))
    return [push_group(instance, [to_json(unit) for _, unit in group], group[0][0]) for group in groups]


def _group(
    members: Sequence[Member],
    kind: Callable[[Member], Hashable],
    unit_bytes: int,
    work: Callable[[Member], int] = attrgetter("work"),
) -> list[list[Member]]:
    most = MEMBERS if conf.getint("core", "parallelism") != 1 else len(members)
    return group_small(members, work, kind, unit_bytes, conf.getint("core", "max_map_length"), most)


def join_faults(faults: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The faults of tasks that failed, by collection; those of one collection are joined."""
    texts: dict[str, list[str]] = {}
    for fault in (from_json(Fault, values) for values in faults):
        texts.setdefault(fault.collection, []).append(fault.fault)
    return {collection: "\n".join(_first(lines)) for collection, lines in texts.items()}


def _first(lines: Sequence[str]) -> Iterator[str]:
    """The first lines; a large partition has a task, and perhaps a fault, for each of its shares."""
    yield from lines[:JOINED_FAULTS]
    if len(lines) > JOINED_FAULTS:
        yield f"and {len(lines) - JOINED_FAULTS} more faults: the logs of the tasks that failed have them"
