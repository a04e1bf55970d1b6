"""A whole run, `milvusdm --yaml` with its Airflow, against the load tasks of the same rows alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure
from bench.inputs import COLLECTION, write_directory
from bench.stage import Stage, timed
from tests.chain import Chain
from tests.servers import MilvusAddress

JOB = """
M2M:
  milvus_version: 1.x
  source_milvus_path: {directory}
  source_collection: {{{collection}: }}
  dest_host: {address.host}
  dest_port: {address.port}
  mode: overwrite
"""


def measure(stage: Stage) -> Iterator[Figure]:
    shape = stage.scale.migrated
    with stage.folder() as folder:
        directory = write_directory(folder, shape, segments=4)
        writing = write_alone(Chain(directory, stage.client))
        run = timed(run_command, directory, stage.address).seconds
    stage.client.drop_collection(COLLECTION)
    yield Figure("run", f"{shape.rows:,} × {shape.label}: writing alone", writing, "s")
    yield Figure("run", f"{shape.rows:,} × {shape.label}: milvusdm --yaml", run, "s")
    yield Figure("run", "time of the run of its writing alone", run / writing, "×", stage.scale.limits.run_of_writing)


def write_alone(chain: Chain) -> float:
    """Seconds that the load tasks take, one after another."""
    plans = chain.plan()
    created, _ = chain.create(plans, "overwrite")
    return timed(chain.load, plans, created).seconds


def run_command(directory: Path, address: MilvusAddress) -> None:
    """It fails unless each row is counted in the target."""
    job = directory / "M2M.yaml"
    job.write_text(JOB.format(directory=directory, collection=COLLECTION, address=address))
    command = [Path(sys.executable).with_name("milvusdm"), "--yaml", job, "--log", directory / "airflow.log"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"milvusdm ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
