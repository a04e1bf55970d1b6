"""Isolated Airflow homes, and Airflow's own commands run in them as a user would."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.airflow_runs import DagRun, read_runs
from tests.support.processes import StartError
from tests.support.warm_python import Finished, run_warm


@dataclass(frozen=True)
class DagsTest:
    """How `airflow dags test` ended; `run` is None where Airflow made none: a refused conf, no such DAG."""

    returncode: int
    output: str
    run: DagRun | None

    @property
    def state(self) -> str | None:
        """The run's; `success` with failed tasks in it where the last tasks' trigger rules allow that."""
        return self.run.state if self.run else None


def migrate_database(home: Path) -> Path:
    """A new Airflow database below `home`, to be copied: making one takes seconds."""
    home.mkdir(parents=True, exist_ok=True)
    env = _environment(home, home / "dags")
    result = run_airflow(env, "db", "migrate", timeout=120)
    if result.returncode:
        raise StartError(f"airflow db migrate ended with {result.returncode}\n{result.stdout}")
    return home / "airflow.db"


def airflow_env(home: Path, dags_folder: Path, database: Path) -> dict[str, str]:
    """The environment for Airflow's commands in a new home, with a copy of a migrated `database`.

    Nothing of this machine's own Airflow settings is left in it; a test may add its own.
    """
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, home / "airflow.db")
    return _environment(home, dags_folder)


def _environment(home: Path, dags_folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return env | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
    }


def run_airflow(env: Mapping[str, str], *arguments: str, timeout: float = 120) -> Finished:
    """Run `airflow` with these arguments; its standard output and error are both in `stdout`."""
    return run_warm(
        "airflow.__main__:main", arguments, env=env, cwd=env["AIRFLOW_HOME"], timeout=timeout, join_output=True
    )


def run_airflow_in_new_interpreter(
    env: Mapping[str, str], *arguments: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """The same from the start on, imports included."""
    return subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=env,
        cwd=env["AIRFLOW_HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def dags_test(
    env: Mapping[str, str], dag_id: str, conf: Mapping[str, Any], *, warm: bool = True, timeout: float = 300
) -> DagsTest:
    """Run `airflow dags test DAG_ID -c CONF`, which takes the DAG from the file of its name.

    Where it is not warm, it runs in a new interpreter and parses the whole DAGs folder.
    """
    before = {run.run_id for run in read_runs(env, dag_id)}
    arguments = ("dags", "test", dag_id, "-c", json.dumps(conf))
    if warm:
        file = Path(env["AIRFLOW__CORE__DAGS_FOLDER"], f"{dag_id}.py")
        result: Any = run_airflow(env, *arguments, "--dagfile-path", str(file), timeout=timeout)
    else:
        result = run_airflow_in_new_interpreter(env, *arguments, timeout=timeout)
    new = [run for run in read_runs(env, dag_id) if run.run_id not in before]
    return DagsTest(result.returncode, result.stdout, new[0] if new else None)
