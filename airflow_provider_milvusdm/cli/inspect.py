"""The command ``milvusdm inspect``: what a source holds, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from airflow_provider_milvusdm.cli.contents import CollectionContents, read_contents
from airflow_provider_milvusdm.progress import count_of

WIDTH = 150
"""Characters of a line if the output is no terminal."""


def inspect(path: str, embeddings: str, *, as_json: bool) -> bool:
    """Print what a source holds; returns whether all of it can be read."""
    collections = read_contents(path, embeddings)
    if as_json:
        print(json.dumps({"path": path, "collections": [asdict(found) for found in collections]}, indent=2))
    else:
        _print_table(collections)
    return not any(found.faults for found in collections)


def _print_table(collections: Sequence[CollectionContents]) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    table = Table()
    for heading in ("collection", "partition"):
        table.add_column(heading, overflow="fold")
    for heading in ("live", "deleted", "only in log", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("dim", "metric", "index"):
        table.add_column(heading, justify="right" if heading == "dim" else "left")
    for found in collections:
        for row in _rows(found):
            table.add_row(*map(Text, row))  # as Text, because a tag may look like Rich's markup
    console.print(table)
    for line in _list_remarks(collections):
        console.print(Text(line), soft_wrap=True)


def _rows(found: CollectionContents) -> Iterator[Sequence[str]]:
    described = (str(found.dimension or ""), found.metric, _index(found))
    if not found.partitions:
        yield (found.name, "", *[""] * 4, *described)
    for number, part in enumerate(found.partitions):
        rows = (f"{count:,}" for count in (part.live, part.deleted, part.only_in_log))
        yield (
            "" if number else found.name,
            part.name,
            *rows,
            to_size(part.bytes),
            *([""] * 3 if number else described),
        )


def _index(found: CollectionContents) -> str:
    params: dict[str, Any] = found.index_params
    listed = ", ".join(f"{name}={value}" for name, value in params.items())
    return f"{found.index} ({listed})" if listed else found.index


def _list_remarks(collections: Sequence[CollectionContents]) -> Iterator[str]:
    partitions = [part for found in collections for part in found.partitions]
    live, size = sum(part.live for part in partitions), sum(part.bytes for part in partitions)
    yield f"{count_of(len(collections), 'collection')}, {count_of(live, 'live row')}, {to_size(size)}"
    for found in collections:
        yield from (f"{found.name}: note: {note}" for note in found.notes)
        yield from (f"{found.name}: FAULT: {fault}" for fault in found.faults)


def to_size(count: int) -> str:
    """Bytes with a unit: ``640 B``, ``1.2 MB``."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
