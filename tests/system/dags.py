"""DAGs folders: the project's templates, and files such as a user writes."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parents[2] / "dags"


def write_dag(folder: Path, name: str, text: str) -> Path:
    """A DAG file below `folder`; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder
