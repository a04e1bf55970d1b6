"""The plan that somebody approves, as a table: for Airflow's UI in Markdown, for a terminal by the command line."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from airflow_provider_milvusdm.manifests import Foreseen
from airflow_provider_milvusdm.progress import count_of

LISTED = 100
"""Collections that the table lists; the totals count all."""
NAMED = 3
"""Partitions of a collection whose names are shown."""
LENGTH = 80
"""Characters of a name or a fault that are shown."""
HEADINGS = ("collection", "target", "what happens", "rows to load", "rows lost", "remarks")
REFUSED = "refused"
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~>])")


def sum_up(plan: Sequence[Foreseen]) -> Iterator[str]:
    """What happens to how many collections, a line for each."""
    counts, rows, lost = Counter(map(_what, plan)), Counter[str](), Counter[str]()
    unknown: dict[str, bool] = defaultdict(bool)
    for foreseen in plan:
        what = _what(foreseen)
        rows[what] += foreseen.rows
        lost[what] += foreseen.lost or 0
        unknown[what] |= foreseen.lost is None
    for what, count in counts.most_common():
        line = f"{count_of(count, 'collection')} {what}: {count_of(rows[what], 'row')} to load"
        if lost[what]:
            line += f", {'at least ' if unknown[what] else ''}{count_of(lost[what], 'row')} lost"
        elif unknown[what]:
            line += ", an unknown number of rows lost"
        yield line


def list_rows(plan: Sequence[Foreseen]) -> list[tuple[str, ...]]:
    """The rows of the table, those first that lose rows of the target; at most :data:`LISTED`."""

    def risk(foreseen: Foreseen) -> tuple[bool, bool, int]:
        return foreseen.is_destructive, bool(foreseen.fault), foreseen.lost or 0

    return [_row(foreseen) for foreseen in sorted(plan, key=risk, reverse=True)[:LISTED]]


def to_markdown(plan: Sequence[Foreseen]) -> str:
    """The totals and the table."""
    table = (HEADINGS, ("---",) * len(HEADINGS), *(tuple(map(escape_markdown, row)) for row in list_rows(plan)))
    more = [f"and {len(plan) - LISTED:,} more"] if len(plan) > LISTED else []
    lines = [*(f"* {escape_markdown(line)}" for line in sum_up(plan)), ""]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in table), "", *more])


def _what(foreseen: Foreseen) -> str:
    return str(foreseen.action) if foreseen.action else REFUSED


def _row(foreseen: Foreseen) -> tuple[str, ...]:
    lost = "unknown" if foreseen.lost is None else f"{foreseen.lost:,}"
    return (_cut(foreseen.name), _cut(foreseen.target), _what(foreseen), f"{foreseen.rows:,}", lost, _remarks(foreseen))


def _remarks(foreseen: Foreseen) -> str:
    if foreseen.fault:
        return _cut(foreseen.fault.splitlines()[0])
    mapped = [f"{_cut(tag)} → {_cut(name)}" for tag, name in list(foreseen.mapped.items())[:NAMED]]
    more = [f"{len(foreseen.mapped) - NAMED} more"] if len(foreseen.mapped) > NAMED else []
    partitions = [f"partitions {', '.join([*mapped, *more])}"] if mapped else []
    in_place = ["dropped before the new rows are loaded"] if foreseen.in_place else []
    return "; ".join([*in_place, *partitions, *_alias(foreseen)])


def _alias(foreseen: Foreseen) -> list[str]:
    if not foreseen.alias:
        return []
    alias = _cut(foreseen.alias)
    return [f"alias {alias} switched from {_cut(foreseen.aliased)}" if foreseen.aliased else f"alias {alias} created"]


def _cut(text: str) -> str:
    """Names may differ at their ends alone."""
    return text if len(text) <= LENGTH else f"{text[: LENGTH // 2 - 1]}…{text[-LENGTH // 2 :]}"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return MARKDOWN.sub(r"\\\1", " ".join(escaped.split()))
