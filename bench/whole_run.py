"""A whole run, `milvusdm --yaml` with its Airflow, against the load tasks of the same rows alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_provider_milvusdm.vectors import CollectionPlan, CreatedCollection
from bench.figures import Figure
from bench.inputs import COLLECTION, write_directory
from bench.stage import Stage, timed
from tests.chain import Chain
from tests.servers import MilvusAddress

LOG = "airflow.log"
JOB = """
M2M:
  milvus_version: 1.x
  source_milvus_path: {directory}
  source_collection: {{{collection}: }}
  dest_host: {address.host}
  dest_port: {address.port}
  mode: skip
"""


def measure(stage: Stage) -> Iterator[Figure]:
    shape = stage.scale.migrated
    with stage.folder() as folder:
        directory = write_directory(folder, shape, segments=4)
        writing = write_alone(Chain(directory, stage.client))
        stage.client.drop_collection(COLLECTION)
        command = timed(run_command, directory, stage.address).seconds
        run = run_seconds((directory / LOG).read_text())
    yield Figure("run", f"{shape.rows:,} × {shape.label}: writing alone, until stored", writing, "s")
    yield Figure("run", f"{shape.rows:,} × {shape.label}: DAG run", run, "s")
    yield Figure("run", f"{shape.rows:,} × {shape.label}: milvusdm --yaml, with Airflow's start", command, "s")
    yield Figure("run", "DAG run of its writing alone", run / writing, "×", stage.scale.limits.run_of_writing)


def write_alone(chain: Chain) -> float:
    """Seconds that the load tasks take, one after another, and the server to store what they wrote."""
    plans = chain.plan()
    created, _ = chain.create(plans)
    return timed(write, chain, plans, created).seconds


def write(chain: Chain, plans: Sequence[CollectionPlan], created: Sequence[CreatedCollection]) -> None:
    chain.load(plans, created)
    chain.client.flush(COLLECTION)


def run_seconds(log: str) -> float:
    """How long the DAG run took, as Airflow logs it."""
    [seconds] = re.findall(r"DagRun Finished.* run_duration=([0-9.]+)", log)
    return float(seconds)


def run_command(directory: Path, address: MilvusAddress) -> None:
    """It fails unless each row is counted in the target."""
    job = directory / "M2M.yaml"
    job.write_text(JOB.format(directory=directory, collection=COLLECTION, address=address))
    command = [Path(sys.executable).with_name("milvusdm"), "--yaml", job, "--log", directory / LOG]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"milvusdm ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
