"""The wheel, built from this tree and installed into an empty environment, outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_milvusdm import __version__
from tests.support.airflow_home import airflow_env
from tests.support.collections_2x import stored
from tests.support.repository import ROOT
from tests.support.targets import milvus_client
from tests.support.terminal import connection


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel and what it requires, and an Airflow home."""

    folder: Path
    airflow: dict[str, str]

    def run(self, program: str, *arguments: str | Path, **variables: str) -> str:
        """What a program of the environment prints, run with these environment variables too."""
        return run(self.folder / "venv" / "bin" / program, *arguments, cwd=self.folder, env=self.airflow | variables)

    def airflow_json(self, *arguments: str) -> Any:
        """What an Airflow command lists, below whatever it logs."""
        output = self.run("airflow", *arguments, "--output", "json")
        return json.loads(output[output.rindex("\n[") + 1 :] if "\n[" in output else output)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, airflow_database: Path) -> Environment:
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "tests")
    source = shutil.copytree(ROOT, folder / "source", ignore=ignored)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source, cwd=folder)
    [wheel] = (folder / "dist").glob("*.whl")
    [sdist] = (folder / "dist").glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=folder)
    uv = (sys.executable, "-m", "uv", "--quiet")
    run(*uv, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    install = (*uv, "pip", "install", "--python", folder / "venv", "--constraint", ROOT / "requirements.lock")
    run(*install, f"airflow-provider-milvusdm[lite] @ {wheel.as_uri()}", cwd=folder)
    env = airflow_env(folder / "airflow", folder / "dags", airflow_database)
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        env.pop(name, None)
    return Environment(folder, env)


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What it prints, all of which is told where it fails."""
    result = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=env or dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_the_command_is_there_without_the_checkout(environment: Environment) -> None:
    assert environment.run("milvusdm", "--version").strip() == __version__
    where = "import airflow_provider_milvusdm as package; print(package.__file__)"
    assert environment.run("python", "-c", where).startswith(str(environment.folder / "venv"))


def test_its_sample_goes_into_milvus_lite_and_a_second_time_is_left_as_it_is(environment: Environment) -> None:
    folder = environment.folder
    environment.run("milvusdm", "sample", "milvus")
    (folder / "M2M.yaml").write_text("M2M:\n  source_milvus_path: milvus\n  dest_uri: lite.db\n")
    report = environment.run("milvusdm", "--yaml", "M2M.yaml")

    assert report.count("│ verified") == 2
    with milvus_client(str(folder / "lite.db")) as client:
        counts = {}
        for name in client.list_collections():
            client.load_collection(name)
            counts[name] = {partition: len(rows) for partition, rows in stored(client, name).items()}
    assert counts == {"articles": {"_default": 2497, "_2021_03_news": 399, "empty": 0}, "products": {"_default": 599}}

    (folder / "again.yaml").write_text("M2M:\n  source_milvus_path: milvus\n")
    target = connection(conn_type="milvus", extra={"uri": "lite.db"})
    report = environment.run("milvusdm", "--yaml", "again.yaml", AIRFLOW_CONN_MILVUS_DEFAULT=target)
    assert report.count("│ skipped") == 2


def test_airflow_lists_the_provider_its_connection_type_and_the_copied_dags(environment: Environment) -> None:
    environment.run("milvusdm", "dags", environment.folder / "dags")
    providers = environment.airflow_json("providers", "list")
    assert ("airflow-provider-milvusdm", __version__) in {
        (provider["package_name"], provider["version"]) for provider in providers
    }
    hooks = {hook["connection_type"]: hook for hook in environment.airflow_json("providers", "hooks")}
    assert hooks["milvus"]["class"] == "airflow_provider_milvusdm.hooks.milvus.MilvusHook"
    assert {"milvusdm_m2m", "milvusdm_h2m", "milvusdm_f2m", "milvusdm_m2h"} == {
        dag["dag_id"] for dag in environment.airflow_json("dags", "list", "--local")
    }
