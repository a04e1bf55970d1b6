"""Full verification: every id and every byte of a collection's rows, source against target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.targets.milvus.compare import Ids, compare_rows, unexpected_ids
from airflow_provider_milvusdm.targets.milvus.units import all_rows

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
    from airflow_provider_milvusdm.targets.milvus.marker import Marker

CHECKPOINT = "compared"
NAMED_IDS = 20
MISSING, UNEXPECTED, DIFFERENT = (
    "are missing in the target",
    "are in the target and not in the source",
    "differ in the target",
)


@dataclass(frozen=True)
class Compared:
    """How far an earlier attempt got, with nothing found wrong.

    Worth something only for the same ``source`` and the same ``generation`` of the target.
    """

    source: str
    generation: str
    partitions: list[str] = field(default_factory=list)
    """Partitions of the target whose ids were compared."""
    stored: int = 0
    """Stored rows whose bytes were compared."""
    rows: int = 0
    """Live rows among them."""


def compare_all(
    client: MilvusClient,
    plan: CollectionPlan,
    created: CreatedCollection,
    marker: Marker,
    store: CheckpointStore | None = None,
) -> tuple[int, list[str]]:
    """Rows compared, and a fault for each partition and kind of difference, which names up to 20 ids.

    Rows that a partition held before it was appended to are not looked at. An attempt that was interrupted is gone
    on with, as long as it had found nothing wrong.
    """
    comparison = _Comparison(client, plan, created, _last(marker, store), store)
    comparison.compare_ids()
    comparison.compare_bytes()
    if store is not None:
        store.set(CHECKPOINT, {})
    return comparison.done.rows, comparison.faults()


def compare_ids(client: MilvusClient, plan: CollectionPlan, created: CreatedCollection, marker: Marker) -> list[str]:
    """A fault for each partition with ids that the source lacks; where counts are equal, none is missing either."""
    comparison = _Comparison(client, plan, created, _last(marker, None), None)
    comparison.compare_ids()
    return comparison.faults()


def _last(marker: Marker, store: CheckpointStore | None) -> Compared:
    fresh, found = Compared(marker.source, marker.generation), store.get(CHECKPOINT) if store is not None else None
    if not found:
        return fresh
    last = Compared(**found)
    return last if (last.source, last.generation) == (fresh.source, fresh.generation) else fresh


class _Comparison:
    """One collection being compared."""

    def __init__(
        self,
        client: MilvusClient,
        plan: CollectionPlan,
        created: CreatedCollection,
        done: Compared,
        store: CheckpointStore | None,
    ) -> None:
        self.client, self.plan, self.created, self.done, self.store = client, plan, created, done, store
        self.units = list(all_rows(plan, created))
        self.counts: dict[tuple[str, str], int] = {}
        self.named: dict[tuple[str, str], list[int]] = {}

    def compare_ids(self) -> None:
        for name, before in self.created.before.items():
            if before == 0 and name not in self.done.partitions:
                for ids in unexpected_ids(self.client, self.plan.target, name, self.units):
                    self._add(name, UNEXPECTED, ids)
                self._note(replace(self.done, partitions=[*self.done.partitions, name]))

    def compare_bytes(self) -> None:
        for found in compare_rows(self.client, self.plan.target, self.units, self.done.stored):
            self._add(found.partition, MISSING, found.missing)
            self._add(found.partition, DIFFERENT, found.different)
            self._note(replace(self.done, stored=found.end, rows=self.done.rows + found.rows))

    def faults(self) -> list[str]:
        return [
            f"partition {tag!r}: {self.counts[name, kind]} rows {kind}: ids {self._ids(name, kind)}"
            for tag, name in self.plan.partition_names.items()
            for kind in (MISSING, UNEXPECTED, DIFFERENT)
            if (name, kind) in self.counts
        ]

    def _add(self, partition: str, kind: str, ids: Sequence[int] | Ids) -> None:
        if len(ids):
            place = partition, kind
            self.counts[place] = self.counts.get(place, 0) + len(ids)
            self.named[place] = [*self.named.get(place, ()), *map(int, ids[:NAMED_IDS])][:NAMED_IDS]

    def _ids(self, partition: str, kind: str) -> str:
        named, more = self.named[partition, kind], self.counts[partition, kind] - NAMED_IDS
        return ", ".join(map(str, named)) + (f" and {more} more" if more > 0 else "")

    def _note(self, done: Compared) -> None:
        self.done = done
        if self.store is not None and not self.counts:
            self.store.set(CHECKPOINT, asdict(done))
