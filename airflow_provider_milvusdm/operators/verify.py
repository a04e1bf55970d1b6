"""The base of the steps that verify collections, whatever their target is."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_milvusdm.manifests import CollectionPlan, Fault, from_json
from airflow_provider_milvusdm.operators.group import GroupOperator
from airflow_provider_milvusdm.operators.xcom import list_references, pull_all
from airflow_provider_milvusdm.report import FAILED, LOG_WIDTH, CollectionReport, Report, render

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from airflow.sdk import Context

Result = TypeVar("Result", bound="DataclassInstance")


class CollectionVerifyOperator(GroupOperator):
    """Verify collections; fails if one differs from the source. The result of each is its :class:`CollectionReport`.

    :param collections: one of the groups that the plan step returned.
    :param faults: what failed tasks left under ``fault``, a list for each step.
    :param changes: what the step returned that inspected the source again; None if that step failed.
    """

    template_fields: Sequence[str] = ("collections", "faults", "changes")
    member_type = CollectionPlan

    def __init__(
        self,
        *,
        collections: Any,
        faults: Sequence[Any] = (),
        changes: Sequence[Any] | None = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collections, self.faults, self.changes = collections, faults, changes

    @property
    def group(self) -> Any:
        return self.collections

    @property
    @abstractmethod
    def passed_on(self) -> Sequence[Any]:
        """What the steps that wrote the target passed on, a list for each step."""

    @cached_property
    def source(self) -> str:
        """The collections, and what earlier steps passed on: a step may be cleared between two tries of this task."""
        results = [values for of_step in (*self.passed_on, *self.faults) for values in list_references(of_step)]
        own = [values["xcom"] for values in results if values.get("of") == self.input_id]
        changes = [values["xcom"] for values in list_references(self.changes)]
        known = super().source, sorted(own), changes, self.changes is None
        return hashlib.blake2b(repr(known).encode(), digest_size=16).hexdigest()

    def fault_of(self, result: CollectionReport) -> str:
        if result.status != FAILED:
            return ""
        return f"collection {result.collection!r} failed:\n" + "\n".join(result.faults)

    def log_results(self, results: Sequence[Mapping[str, Any]]) -> None:
        report = Report(tuple(from_json(CollectionReport, result) for result in results))
        self.log.info("\n%s", render(report, LOG_WIDTH))

    def results(
        self, context: Context, values: Any, kind: type[Result], name: Callable[[Result], str]
    ) -> Mapping[str, list[Result]]:
        """What tasks returned for these collections, by the names of the collections."""
        found: dict[str, list[Result]] = defaultdict(list)
        for manifest in pull_all(context["ti"], values, {self.input_id}):
            result = from_json(kind, manifest)
            found[name(result)].append(result)
        return found

    def step_faults(self, context: Context) -> Mapping[str, list[Fault]]:
        """The faults of earlier steps, by collection."""
        found: dict[str, list[Fault]] = defaultdict(list)
        for of_step in self.faults:
            for collection, faults in self.results(context, of_step, Fault, lambda fault: fault.collection).items():
                found[collection] += faults
        return found

    def source_changes(self, context: Context) -> Mapping[str, list[str]]:
        """How the source has changed since it was inspected, by collection."""
        if self.changes is None:
            unknown = ["it is unknown whether the source changed: see the log of check_source"]
            return {plan.name: unknown for plan in self.members}
        found: dict[str, list[str]] = defaultdict(list)
        for manifest in pull_all(context["ti"], self.changes):
            change = from_json(Fault, manifest)
            found[change.collection].append(change.fault)
        return found
