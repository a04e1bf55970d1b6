"""Whether a Milvus 1.x source changed after it was inspected: a server may still be writing to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from airflow_provider_milvusdm.exceptions import ChangedSourceError
from airflow_provider_milvusdm.manifests import PartitionGroup

EXAMPLES = 5


def find_changes(before: Sequence[PartitionGroup], now: Sequence[PartitionGroup]) -> dict[str, str]:
    """By collection: how its catalog and its log differ from ``before``; only collections that were readable before."""
    names = dict.fromkeys(group.name for group in before if not group.error)
    found = {name: list(_differences(_groups_of(before, name), _groups_of(now, name))) for name in names}
    return {name: str(_changed(name, differences)) for name, differences in found.items() if differences}


def _groups_of(groups: Iterable[PartitionGroup], name: str) -> list[PartitionGroup]:
    return [group for group in groups if group.name == name]


def _differences(before: Sequence[PartitionGroup], now: Sequence[PartitionGroup]) -> Iterator[str]:
    if not now or now[0].error:
        yield now[0].error if now else "it is gone"
        return
    rows_before, rows_now = _rows_by_segment(before), _rows_by_segment(now)
    for tag, segment in dict.fromkeys([*rows_before, *rows_now]):
        rows = [counts.get((tag, segment)) for counts in (rows_before, rows_now)]
        if rows[0] != rows[1]:
            yield f"partition {tag!r}, segment {segment}: {_describe(rows[0])} then, {_describe(rows[1])} now"
    lsns = [groups[0].source.options.get("last_lsn", 0) for groups in (before, now)]
    if lsns[0] != lsns[1]:
        yield f"log: up to lsn {lsns[0]} then, {lsns[1]} now"


def _rows_by_segment(groups: Iterable[PartitionGroup]) -> dict[tuple[str, str], int]:
    """Live rows by partition and segment."""
    return {
        (partition.tag, segment.name): segment.live_rows
        for group in groups
        for partition in group.partitions
        for segment in partition.segments
    }


def _describe(rows: int | None) -> str:
    return "none" if rows is None else f"{rows} rows"


def _changed(name: str, differences: Sequence[str]) -> ChangedSourceError:
    more = [f"and {len(differences) - EXAMPLES} more"] if len(differences) > EXAMPLES else []
    return ChangedSourceError(
        f"collection {name!r} of the source changed since it was inspected",
        found="; ".join([*differences[:EXAMPLES], *more]),
        cure="Stop the 1.x server, if it still runs, and start a new run.",
    )
