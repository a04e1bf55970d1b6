"""What each layer loads when it is imported, tested in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

HEAVY = {"airflow", "faiss", "h5py", "numpy", "pydantic", "pymilvus", "rich", "yaml"}


def modules(layer: str) -> list[str]:
    """All modules of a folder of the package."""
    paths = sorted((ROOT / "airflow_provider_milvusdm" / layer).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.stem != "__init__"]
    assert names
    return names


def loaded_by(code: str) -> set[str]:
    """Top-level packages in memory after running `code` in a new process."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


def imports(names: list[str]) -> str:
    return "\n".join(f"import {name}" for name in names)


def test_the_package_itself_loads_nothing() -> None:
    assert not loaded_by("import airflow_provider_milvusdm") & HEAVY


def test_provider_info_loads_nothing() -> None:
    code = "from airflow_provider_milvusdm.get_provider_info import get_provider_info; get_provider_info()"
    assert not loaded_by(code) & HEAVY


def test_sources_know_neither_airflow_nor_pymilvus() -> None:
    assert not loaded_by(imports(modules("sources"))) & {"airflow", "pymilvus"}


def test_the_layers_below_sources_know_neither_airflow_nor_pymilvus() -> None:
    names = [f"airflow_provider_milvusdm.{name}" for name in ("exceptions", "manifests", "progress", "report")]
    for layer in ("config", "model", "rows", "storage"):
        names += modules(layer)
    assert not loaded_by(imports(names)) & {"airflow", "pymilvus"}


def test_targets_know_no_airflow() -> None:
    assert "airflow" not in loaded_by(imports(modules("targets")))


def test_the_command_line_starts_without_airflow() -> None:
    assert not loaded_by("import airflow_provider_milvusdm.cli.command") & {"airflow", "numpy", "pymilvus"}


@pytest.mark.slow
def test_dag_files_are_parsed_without_packages_that_are_slow_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them in one process: if one loaded it, it would be there at the end."""
    (tmp_path / "to_milvus.yaml").write_text("M2M: {source_milvus_path: /data/milvus, target: {metric_type: L2}}\n")
    monkeypatch.setenv("MILVUSDM_CONFIG_DIR", str(tmp_path))
    dags = sorted((ROOT / "dags").glob("*.py"))
    assert dags
    found = loaded_by("import runpy\n" + "\n".join(f"print(runpy.run_path({str(dag)!r}))" for dag in dags))
    assert "airflow" in found
    assert not found & {"faiss", "h5py", "numpy", "pymilvus"}


@pytest.mark.slow
def test_hooks_and_operators_are_imported_without_packages_that_are_slow_to_import() -> None:
    names = modules("hooks") + modules("operators")
    assert not loaded_by(imports(names)) & {"faiss", "h5py", "numpy", "pymilvus"}
