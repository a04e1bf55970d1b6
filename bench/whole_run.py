"""Whole runs, `milvusdm --yaml` with its Airflow, against the load tasks of the same rows alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.targets.milvus.index_mapping import target_index
from airflow_provider_milvusdm.targets.milvus.server.index import make_searchable
from airflow_provider_milvusdm.targets.milvus.units import loaded_into
from bench.figures import Figure, Limit
from bench.inputs import COLLECTION, Shape, write_directory
from bench.stage import Server, Stage, timed, turned
from tests.support.chain import Chain

STORED, LOADED, START = "written, until stored", "written, indexed and loaded", "Airflow's start"
COMMAND = "milvusdm --yaml"
ALLOWED = "1.3 × written, indexed and loaded + 12 s"
"""Verification, and the fixed costs of Airflow and of imports."""
METHODS = ("insert", "bulk_import")
INSERTED, IMPORTED = (f"DAG run, {method}" for method in METHODS)
JOB = """
M2M:
  milvus_version: 1.x
  source_milvus_path: {directory}
  source_collection: {{{collection}: }}
  dest_host: {address.host}
  dest_port: {address.port}
  mode: skip
  load_method: {method}
"""


def measure(stage: Stage) -> Iterator[Figure]:
    for shape in stage.scale.migrated:
        limited = shape == stage.scale.migrated[0]
        yield from figures(shape, rounds(stage, shape), stage.scale.limits.run_of_allowed if limited else None)


def rounds(stage: Stage, shape: Shape) -> dict[str, list[float]]:
    """Seconds that each way took, a round after the other."""
    taken = defaultdict(list)
    ways = [partial(write_alone, shape), *(partial(run_command, method) for method in METHODS)]
    with stage.folder() as folder:
        directory = write_directory(folder, shape, segments=4)
        for number in range(stage.scale.run_rounds):
            for measured in turned(ways, number):
                with stage.server() as server:
                    for name, seconds in measured(server, directory).items():
                        taken[name].append(seconds)
    return taken


def figures(shape: Shape, taken: dict[str, list[float]], limit: Limit | None) -> Iterator[Figure]:
    for name, seconds in taken.items():
        yield Figure("run", f"{shape.rows:,} × {shape.label}: {name}", median(seconds), "s")
    taken |= {ALLOWED: [1.3 * seconds + 12 for seconds in taken[LOADED]]}
    for run, other, most in (
        (COMMAND, ALLOWED, limit),
        (INSERTED, LOADED, None),
        (INSERTED, STORED, None),
        (IMPORTED, INSERTED, None),
    ):
        ratio = median(one / another for one, another in zip(taken[run], taken[other], strict=True))
        yield Figure("run", f"{shape.label}: {run}, of {other}", ratio, "×", most)


def write_alone(shape: Shape, server: Server, directory: Path) -> dict[str, float]:
    """The load tasks, one after another, until the server has stored what they wrote; and until it has it in memory."""
    chain = Chain(directory, server.client)
    [plan] = plans = chain.plan()
    created, _ = chain.create(plans)
    stored = timed(write, chain, plans, created).seconds
    target = loaded_into(plan, created[0])
    loaded = timed(make_searchable, server.client, target, target_index(shape.collection)).seconds
    return {STORED: stored, LOADED: stored + loaded}


def write(chain: Chain, plans: Sequence[CollectionPlan], created: Sequence[CreatedCollection]) -> None:
    chain.load(plans, created)
    chain.client.flush(created[0].own_name)


def run_command(method: str, server: Server, directory: Path) -> dict[str, float]:
    """`milvusdm --yaml`, which fails unless each row is counted in the target; and the DAG run inside it."""
    job, log = directory / "M2M.yaml", directory / "airflow.log"
    log.unlink(missing_ok=True)
    job.write_text(JOB.format(directory=directory, collection=COLLECTION, address=server.address, method=method))
    command = [Path(sys.executable).with_name("milvusdm"), "--yaml", job, "--log", log]
    whole, run = timed(run_checked, command, directory.with_name("import")).seconds, run_seconds(log.read_text())
    fixed = {START: whole - run, COMMAND: whole} if method == METHODS[0] else {}
    return {f"DAG run, {method}": run} | fixed


def run_checked(command: Sequence[str | Path], staging: Path) -> None:
    staging.mkdir(exist_ok=True)
    connection = {"conn_type": "milvus", "extra": {"import_url": f"file://{staging}"}}
    env = os.environ | {"AIRFLOW_CONN_MILVUS_DEFAULT": json.dumps(connection)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if ended.returncode:
        raise RuntimeError(f"milvusdm ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}")


def run_seconds(log: str) -> float:
    """From the start of the first task, before which Airflow starts a server of its own, to the end of the run."""
    [started, *_], [ended] = (
        re.findall(rf"^(\S+) .*{event}", log, re.M) for event in ("Task started", "DagRun Finished")
    )
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
