"""A folder of YAML files as DAGs under a real Airflow: they run, and what is wrong with others is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.airflow_home import airflow_env, run_airflow
from tests.support.airflow_runs import ENDED, read_runs, read_task_logs
from tests.support.airflow_standalone import StandaloneAirflow, standalone_airflow
from tests.support.canary import files_with
from tests.support.collections_2x import stored
from tests.support.dag_templates import copy_template
from tests.support.directories import random_vectors, write_directory
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import write_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.processes import wait_until
from tests.support.targets import milvus_client

VECTORS = random_vectors(200, 1)
ROWS = {row_id: vector.tobytes() for row_id, vector in enumerate(VECTORS)}
UNKNOWN_KEY = "M2M:\n  source_milvus_path: /data/milvus\n  mod: append\n"
PASSWORD = "M2M:\n  source_milvus_path: /data/milvus\n  mysql_parameter:\n    host: db\n    password: s3cret\n"


@dataclass(frozen=True)
class Kept:
    """Migrations kept as files: two scheduled, two to be triggered, two broken."""

    airflow: StandaloneAirflow
    configs: Path
    folder: Path
    directory: Milvus1xDirectory

    def target(self, name: str) -> Path:
        return self.folder / f"{name}.db"

    def import_errors(self) -> dict[str, str]:
        """What the API says, by DAG file."""
        errors = self.airflow.call("GET", "/api/v2/importErrors")["import_errors"]
        return {Path(error["filename"]).name: error["stack_trace"] for error in errors}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, airflow_database: Path) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("yaml-dags")
    directory = write_directory(folder / "milvus", {"news": {"_default": range(300), "part": range(300, 350)}})
    configs = folder / "migrations"
    configs.mkdir()
    write_hdf5(folder / "a.h5", {"embeddings": VECTORS})
    write_index(folder / "faiss.index", make_index("Flat", VECTORS))
    milvus1x = {"source_milvus_path": str(directory.path), "retries": 2}
    jobs: dict[str, tuple[str, dict[str, Any]]] = {
        "m2m once": ("M2M", {**milvus1x, "dest_uri": str(folder / "m2m.db"), "schedule": "@once"}),
        "h2m_nightly": (
            "H2M",
            {
                "data_dir": str(folder),
                "dest_uri": str(folder / "h2m.db"),
                "dest_collection_name": "news",
                "schedule": "0 3 * * *",
                "tags": ["mine"],
            },
        ),
        "f2m": (
            "F2M",
            {
                "data_path": str(folder / "faiss.index"),
                "dest_uri": str(folder / "f2m.db"),
                "dest_collection_name": "news",
            },
        ),
        "m2h": ("M2H", {**milvus1x, "data_dir": str(folder / "out")}),
    }
    for name, (kind, params) in jobs.items():
        (configs / f"{name}.yaml").write_text(yaml.safe_dump({kind: params}))
    (configs / "unknown key.yaml").write_text(UNKNOWN_KEY)
    (configs / "secret.yaml").write_text(PASSWORD)
    for name in ("milvusdm_broken_yaml", "milvusdm_from_yaml", "milvusdm_m2m"):
        dags = copy_template(folder / "dags", name)
    env = airflow_env(folder / "airflow", dags, airflow_database) | {
        "MILVUSDM_CONFIG_DIR": str(configs),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    }
    with standalone_airflow(env) as airflow:
        yield Kept(airflow, configs, folder, directory)


def test_the_folder_may_be_named_in_airflows_configuration_file(tmp_path: Path, templates_env: dict[str, str]) -> None:
    (tmp_path / "nightly.yaml").write_text("M2M: {source_milvus_path: /data/milvus}")
    Path(templates_env["AIRFLOW_HOME"], "airflow.cfg").write_text(f"[milvusdm]\nconfig_dir = {tmp_path}\n")
    listed = run_airflow(templates_env, "dags", "list", "--local", "--output", "plain")
    assert {"nightly", "milvusdm_m2m"} <= {line.split()[0] for line in listed.stdout.splitlines() if line}


def wait_for_runs(kept: Kept, dag_id: str) -> None:
    """Until its first run has ended well."""

    def ended() -> bool:
        return bool(runs := read_runs(kept.airflow.env, dag_id)) and runs[0].state in ENDED

    wait_until(ended, 600, lambda: f"{read_runs(kept.airflow.env, dag_id)}\n{kept.airflow.tails()}")
    run = read_runs(kept.airflow.env, dag_id)[0]
    assert run.state == "success", read_task_logs(kept.airflow.env, run)


@pytest.mark.parametrize(("dag_id", "target"), [("m2m_once", "m2m"), ("h2m_nightly", "h2m")])
def test_a_scheduled_file_runs_by_itself(kept: Kept, dag_id: str, target: str) -> None:
    wait_for_runs(kept, dag_id)
    assert read_runs(kept.airflow.env, dag_id)[0].run_id.startswith("scheduled__")
    news = {tag: kept.directory.live("news", tag) for tag in ("_default", "part")}
    with milvus_client(str(kept.target(target))) as client:
        client.load_collection("news")
        assert stored(client, "news") == (news if target == "m2m" else {"_default": ROWS})


def test_a_file_without_a_schedule_is_triggered_with_its_values(kept: Kept) -> None:
    ended = [kept.airflow.wait_for_run(dag_id, kept.airflow.trigger(dag_id, {})) for dag_id in ("f2m", "m2h")]
    assert [run.state for run in ended] == ["success", "success"]
    with milvus_client(str(kept.target("f2m"))) as client:
        client.load_collection("news")
        assert stored(client, "news") == {"_default": ROWS}
    assert len(list((kept.folder / "out").rglob("*.h5"))) == 2


def test_broken_files_are_one_import_error_that_goes_away_when_they_are_mended(kept: Kept) -> None:
    wait_until(lambda: bool(kept.import_errors()), 300, kept.airflow.tails)
    [(name, text)] = kept.import_errors().items()
    assert name == "milvusdm_broken_yaml.py"
    assert str(kept.configs / "unknown key.yaml") in text
    assert "mod: there is no such param; did you mean mode?" in text
    assert str(kept.configs / "secret.yaml") in text
    assert "xpected mysql_conn_id" in text
    assert "s3cret" not in text

    listed = run_airflow(kept.airflow.env, "dags", "list-import-errors", "--local")
    assert "did you mean mode?" in " ".join(listed.stdout.split())
    assert "s3cret" not in listed.stdout
    assert files_with("s3cret", Path(kept.airflow.env["AIRFLOW_HOME"])) == []

    dags = {dag["dag_id"] for dag in kept.airflow.call("GET", "/api/v2/dags")["dags"]}
    assert {"m2m_once", "h2m_nightly", "f2m", "m2h", "milvusdm_m2m"} <= dags

    (kept.configs / "secret.yaml").unlink()
    (kept.configs / "unknown key.yaml").write_text(UNKNOWN_KEY.replace("mod:", "mode:"))
    wait_until(lambda: not kept.import_errors(), 300, lambda: f"{kept.import_errors()}\n{kept.airflow.tails()}")

    def there() -> bool:
        return "unknown_key" in {dag["dag_id"] for dag in kept.airflow.call("GET", "/api/v2/dags")["dags"]}

    wait_until(there, 300, kept.airflow.tails)
