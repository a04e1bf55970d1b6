"""Measure all parts but those in `BY_NAME`: `python -m bench`; or some: `python -m bench --only reader writer`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from bench import bulk_import, command, many, memory, reader, scheduler, segments, verify, whole_run, workers, writer
from bench.figures import Figure
from bench.scales import FULL, SHORT
from bench.stage import Stage

Part: TypeAlias = Callable[[Stage], Iterator[Figure]]
PARTS: Mapping[str, Part] = {
    "reader": reader.measure,
    "resolve": memory.measure_resolving,
    "writer": writer.measure,
    "import": bulk_import.measure,
    "load": memory.measure_loading,
    "segments": segments.measure,
    "verify": verify.measure,
    "run": whole_run.measure,
    "command": command.measure,
    "many": many.measure,
    "scheduler": scheduler.measure,
}
BY_NAME: Mapping[str, Part] = {"workers": workers.measure}
"""Only measured if they are named, because they need more than the others."""


def main() -> int:
    """Print each figure as it comes; 1 where one is not what it must be."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="little data, generous limits: does it all still run?")
    parts = {**PARTS, **BY_NAME}
    parser.add_argument("--only", nargs="+", choices=parts, default=list(PARTS), metavar="PART", help=", ".join(parts))
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()
    figures = []
    for part in asked.only:
        for figure in parts[part](Stage(SHORT if asked.short else FULL)):
            print(figure, flush=True)
            figures.append(figure)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps([asdict(figure) | {"holds": figure.holds} for figure in figures], indent=1))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
