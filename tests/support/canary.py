"""A password that is looked for wherever a run may have left it."""

from __future__ import annotations

from pathlib import Path

CANARY = "canary0c1d7e"


def files_with(text: str, folder: Path) -> list[Path]:
    """Logs, databases and their journals alike."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
