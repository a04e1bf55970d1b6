"""What a page of Markdown contains: tables, links, anchors, YAML."""

from __future__ import annotations

import re
from pathlib import Path


def printed_yaml(page: Path) -> list[str]:
    """Its YAML blocks."""
    return re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def tables(page: Path, heading: str) -> list[list[str]]:
    """Rows of its tables whose first column has this heading; each row is a list of cells."""
    found: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        first, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        if first[0] == heading:
            found += rows
    return found


def links(page: Path) -> list[tuple[str, str]]:
    """Path and anchor of its relative links, each of them empty where it is missing."""
    found = re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", _without_code(page))
    return [(path, anchor) for path, anchor in found if path or anchor]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives its headings."""
    headings = re.findall(r"^#+ (.*)$", _without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
