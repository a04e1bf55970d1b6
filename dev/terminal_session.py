"""Write docs/terminal-session.md: what the commands of a migration print, recorded in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "terminal-session.md"
COMMANDS = (
    "milvusdm sample milvus",
    "milvusdm inspect milvus",
    "milvusdm validate --yaml M2M.yaml --log airflow.log",
    "milvusdm --yaml M2M.yaml --log airflow.log",
)
HEAD = """\
# A terminal session

This session inspects a sample of Milvus 1.x, shows what a migration would do, and migrates it. `M2M.yaml` is the file
on the page [M2M](m2m.md). It was recorded by `make terminal-session`. On a terminal, the commands also show bars while
a task runs.

"""


def main() -> None:
    """Run the commands one after another, and write them with what they print."""
    [job] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "m2m.md").read_text(encoding="utf-8"), re.DOTALL)
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "M2M.yaml").write_text(job, encoding="utf-8")
        env = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
        shown = [f"$ {command}\n{_run(command, folder, env)}" for command in COMMANDS]
    text = "\n".join(shown)
    PAGE.write_text(f"{HEAD}```console\n{text}```\n", encoding="utf-8")


def _run(command: str, folder: str, env: dict[str, str]) -> str:
    ended = subprocess.run(command.split(), cwd=folder, env=env, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in ended.stdout.splitlines()).rstrip() + "\n"


if __name__ == "__main__":
    main()
