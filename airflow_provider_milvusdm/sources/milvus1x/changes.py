"""Whether a Milvus 1.x source is still what was inspected: a server may have gone on writing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from airflow_provider_milvusdm.exceptions import ChangedSourceError
from airflow_provider_milvusdm.manifests import PartitionGroup

EXAMPLES = 5


def find_changes(before: Sequence[PartitionGroup], now: Sequence[PartitionGroup]) -> dict[str, str]:
    """By collection: what its catalog and its log say now and did not ``before``. Of those that could be read then."""
    names = dict.fromkeys(group.name for group in before if not group.error)
    found = {name: list(_differences(_of(before, name), _of(now, name))) for name in names}
    return {name: str(_changed(name, differences)) for name, differences in found.items() if differences}


def _of(groups: Iterable[PartitionGroup], name: str) -> list[PartitionGroup]:
    return [group for group in groups if group.name == name]


def _differences(before: Sequence[PartitionGroup], now: Sequence[PartitionGroup]) -> Iterator[str]:
    if not now or now[0].error:
        yield now[0].error if now else "it is gone"
        return
    rows, rows_now = _rows(before), _rows(now)
    for tag, segment in dict.fromkeys([*rows, *rows_now]):
        then, now_there = rows.get((tag, segment)), rows_now.get((tag, segment))
        if then != now_there:
            yield f"partition {tag!r}, segment {segment}: {_said(then)} then, {_said(now_there)} now"
    lsns = [groups[0].source.options.get("last_lsn", 0) for groups in (before, now)]
    if lsns[0] != lsns[1]:
        yield f"log: up to lsn {lsns[0]} then, {lsns[1]} now"


def _rows(groups: Iterable[PartitionGroup]) -> dict[tuple[str, str], int]:
    """Live rows by partition and segment."""
    return {
        (partition.tag, segment.name): segment.live_rows
        for group in groups
        for partition in group.partitions
        for segment in partition.segments
    }


def _said(rows: int | None) -> str:
    return "none" if rows is None else f"{rows} rows"


def _changed(name: str, differences: Sequence[str]) -> ChangedSourceError:
    more = [f"and {len(differences) - EXAMPLES} more"] if len(differences) > EXAMPLES else []
    return ChangedSourceError(
        f"collection {name!r} of the source changed since it was inspected",
        found="; ".join([*islice(differences, EXAMPLES), *more]),
        cure="Stop the 1.x server, if it still runs, and start a new run.",
    )
