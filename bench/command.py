"""The command by itself: `milvusdm validate` of the sample, and its run into Milvus Lite, from start to report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from airflow_provider_milvusdm.cli.sample import write_sample
from bench.figures import Figure
from bench.stage import Stage, timed

JOB = """
M2M:
  milvus_version: 1.x
  source_milvus_path: {directory}
  source_collection:
    articles:
    products:
  dest_uri: {target}
  mode: skip
"""


def measure(stage: Stage) -> Iterator[Figure]:
    limits = stage.scale.limits
    with stage.folder() as directory:
        write_sample(directory)
        run(directory, "warm", "validate")  # compiles what the installation left without bytecode
        validated, migrated = [], []
        for number in range(stage.scale.run_rounds):
            validated.append(timed(partial(run, directory, f"validated{number}", "validate")).seconds)
            migrated.append(timed(partial(run, directory, f"migrated{number}")).seconds)
    yield Figure("command", "milvusdm validate of the sample", median(validated), "s", limits.validate)
    yield Figure("command", "milvusdm --yaml of the sample into Milvus Lite", median(migrated), "s", limits.sample)


def run(directory: Path, name: str, *command: str) -> None:
    """Run the command in a process of its own, into a target that doesn't exist yet."""
    job, log = directory.with_name(f"{name}.yaml"), directory.with_name(f"{name}.log")
    job.write_text(JOB.format(directory=directory, target=directory.with_name(f"{name}.db")))
    milvusdm = Path(sys.executable).with_name("milvusdm")
    subprocess.run([milvusdm, *command, "--yaml", job, "--log", log], check=True, capture_output=True)
