"""Each of the four jobs as its users start it: `airflow dags test`, `milvusdm --yaml`, `milvusdm validate`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
import yaml

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_task_logs, read_xcom
from tests.support.collections_2x import Rows, stored
from tests.support.dag_templates import TEMPLATES
from tests.support.directories import random_vectors, write_directory
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import write_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.repository import ROOT
from tests.support.targets import milvus_client
from tests.support.terminal import Terminal
from tests.support.tree_checksum import tree_checksum

ROWS = 500
IDS = np.arange(-100, ROWS - 100)
VECTORS = random_vectors(ROWS, 1)


@dataclass(frozen=True)
class Sources:
    """Something to read for each job, and what has to arrive."""

    folder: Path
    directory: Milvus1xDirectory

    @property
    def out(self) -> Path:
        """Where M2H writes."""
        return self.folder / "out"

    def params(self, kind: str, target: str) -> dict[str, Any]:
        """What is asked of each job."""
        milvus1x = {"source_milvus_path": str(self.directory.path), "source_collection": {"news": None}}
        return {
            "M2M": {**milvus1x, "dest_uri": target},
            "H2M": {
                "data_path": [str(self.folder / "files" / "a.h5")],
                "dest_uri": target,
                "dest_collection_name": "from_hdf5",
            },
            "F2M": {
                "data_path": str(self.folder / "files" / "faiss.index"),
                "dest_uri": target,
                "dest_collection_name": "from_faiss",
            },
            "M2H": {**milvus1x, "data_dir": str(self.out)},
        }[kind]

    @property
    def expected(self) -> Mapping[str, Mapping[str, Rows]]:
        """By collection and partition."""
        rows = {int(row_id): vector.tobytes() for row_id, vector in zip(IDS, VECTORS, strict=True)}
        return {
            "news": {tag: self.directory.live("news", tag) for tag in ("_default", "part")},
            "from_hdf5": {"_default": rows},
            "from_faiss": {"_default": rows},
            "images": {"_default": rows},
            "more": {"_default": {}},
        }

    def check_target(self, uri: str, *names: str) -> None:
        with milvus_client(uri) as client:
            assert sorted(client.list_collections()) == sorted(names)
            for name in names:
                client.load_collection(name)
            assert {name: stored(client, name) for name in names} == {name: self.expected[name] for name in names}

    def check_files(self) -> None:
        [folder] = self.out.glob("*/*/news")
        for tag, rows in self.expected["news"].items():
            with h5py.File(folder / f"{tag}.h5") as file:
                found = zip(file["ids"][:].tolist(), map(bytes, file["embeddings"][:]), strict=True)
                assert dict(found) == rows


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    directory = write_directory(
        tmp_path / "milvus", {"news": {"_default": range(400), "part": range(400, 450)}, "more": {}}
    )
    (tmp_path / "files").mkdir()
    write_hdf5(tmp_path / "files" / "a.h5", {"embeddings": VECTORS, "ids": IDS}, compression="gzip")
    write_index(tmp_path / "files" / "faiss.index", make_index("IVF8,Flat", VECTORS, IDS))
    return Sources(tmp_path, directory)


PRINTED = [
    (page.stem, dag_id, json.loads(conf))
    for page in (ROOT / "README.md", *sorted(TEMPLATES.glob("milvusdm_?2?.py")))
    for dag_id, conf in re.findall(r"airflow dags test (\w+) -c '(.*?)'", page.read_text(encoding="utf-8"))
]
"""The commands of the README, and of each template: where it is printed, the DAG, and the conf."""


def test_each_template_has_a_command_and_the_readme_has_one() -> None:
    jobs = ("f2m", "h2m", "m2h", "m2m")
    assert [page for page, *_ in PRINTED] == ["README", *(f"milvusdm_{job}" for job in jobs)]
    assert [dag_id for _, dag_id, _ in PRINTED[1:]] == [f"milvusdm_{job}" for job in jobs]


@pytest.mark.parametrize(("page", "dag_id", "conf"), PRINTED, ids=[page for page, *_ in PRINTED])
def test_a_printed_command_of_airflow_dags_test_migrates(
    page: str,
    dag_id: str,
    conf: Mapping[str, str],
    sources: Sources,
    templates_env: dict[str, str],
    empty_milvus_server_uri: str,
) -> None:
    """With the paths and the host of this machine; the port is that of the connection."""
    before = tree_checksum(sources.directory.path)
    server, files = urlsplit(empty_milvus_server_uri), sources.folder / "files"
    places = {
        "/data/milvus": str(sources.directory.path),
        "/data/faiss.index": str(files / "faiss.index"),
        "/data/hdf5": str(sources.out if dag_id == "milvusdm_m2h" else files),
        "milvus": str(server.hostname),
        "milvus.example": str(server.hostname),
    }
    env = templates_env | {"AIRFLOW_CONN_MILVUS_DEFAULT": f"milvus://{server.netloc}"}
    here = {name: places.get(value, value) for name, value in conf.items()}
    ended = dags_test(env, dag_id, here, warm=page != "README")

    assert ended.state == "success", ended.output
    assert ended.run is not None
    assert set(ended.run.states.values()) == {"success"}
    if dag_id == "milvusdm_m2h":
        sources.check_files()
    else:
        names = ("more", "news") if dag_id == "milvusdm_m2m" else ("images",)
        sources.check_target(empty_milvus_server_uri, *names)
    assert tree_checksum(sources.directory.path) == before
    labels = {task.rendered_map_index for task in ended.run.tasks if task.map_index >= 0}
    assert any(name in str(label) for name in ("news", "images") for label in labels)


def write_yaml(terminal: Terminal, jobs: Mapping[str, Mapping[str, Any]]) -> Path:
    path = terminal.folder / "jobs.yaml"
    path.write_text(yaml.safe_dump(dict(jobs), sort_keys=False))
    return path


def test_one_file_runs_all_four_jobs_in_order(sources: Sources, terminal: Terminal, milvus_lite_uri: str) -> None:
    order = ("M2H", "F2M", "M2M", "H2M")
    ended = terminal.milvusdm_in_new_interpreter(
        "--yaml", write_yaml(terminal, {kind: sources.params(kind, milvus_lite_uri) for kind in order})
    )
    assert ended.returncode == 0, ended
    sources.check_target(milvus_lite_uri, "news", "from_hdf5", "from_faiss")
    sources.check_files()
    reported = [row[0] for row in ended.rows if row[0]]
    assert reported == ["news", "from_faiss", "news", "from_hdf5"]
    assert {row[-1] for row in ended.rows if row[0]} == {"verified"}


def test_a_job_that_fails_does_not_keep_the_others_back(
    sources: Sources, terminal: Terminal, milvus_lite_uri: str
) -> None:
    missing = {**sources.params("H2M", milvus_lite_uri), "data_path": ["missing.h5"]}
    path = write_yaml(terminal, {"H2M": missing, "F2M": sources.params("F2M", milvus_lite_uri)})
    ended = terminal.milvusdm("--yaml", path)
    assert ended.returncode == 1, ended
    assert "No HDF5 file" in ended.stdout
    assert "missing.h5" in ended.stdout
    sources.check_target(milvus_lite_uri, "from_faiss")


def test_validate_says_what_would_be_done_and_touches_nothing(
    sources: Sources, terminal: Terminal, empty_milvus_server_uri: str
) -> None:
    kinds = ("M2M", "H2M", "F2M", "M2H")
    path = write_yaml(terminal, {kind: sources.params(kind, empty_milvus_server_uri) for kind in kinds})
    ended = terminal.milvusdm("validate", "--yaml", path)

    assert ended.returncode == 0, ended
    assert [(row[0], row[-1]) for row in ended.rows if row[0]] == [
        ("news", "planned"),
        ("from_hdf5", "planned"),
        ("from_faiss", "planned"),
        ("news", "planned"),
    ]
    assert "would be created" in ended.stdout
    assert "would be exported" in ended.stdout
    assert "of its memory to be loaded" in ended.stdout
    assert not sources.out.exists()
    with milvus_client(empty_milvus_server_uri) as client:
        assert client.list_collections() == []


def test_validate_finds_what_a_run_would_refuse(sources: Sources, terminal: Terminal, milvus_lite_uri: str) -> None:
    bad = VECTORS.copy()
    bad[3, 3] = np.inf
    write_hdf5(sources.folder / "files" / "a.h5", {"embeddings": bad})
    path = write_yaml(terminal, {"H2M": sources.params("H2M", milvus_lite_uri)})
    ended = terminal.milvusdm("validate", "--yaml", path)
    assert ended.returncode == 1, ended
    assert "hold NaN or infinity" in ended.stdout


def test_dry_run_is_a_param_of_a_dag(sources: Sources, templates_env: dict[str, str], milvus_lite_uri: str) -> None:
    params = {**sources.params("H2M", milvus_lite_uri), "dry_run": True}
    ended = dags_test(templates_env, "milvusdm_h2m", params)
    assert ended.run is not None
    assert ended.state == "success", read_task_logs(templates_env, ended.run)
    [report] = read_xcom(templates_env, ended.run, "report", key="report")["collections"]
    assert (report["status"], report["action"]) == ("planned", "would be created")
    assert ended.run.states["load_partitions", -1] == "skipped"
    assert not Path(milvus_lite_uri).exists()


def test_contradicting_params_fail_the_first_task_and_are_told(
    sources: Sources, templates_env: dict[str, str], milvus_lite_uri: str
) -> None:
    ended = dags_test(templates_env, "milvusdm_h2m", {**sources.params("H2M", milvus_lite_uri), "data_dir": "/data"})
    assert ended.run is not None
    assert ended.state == "failed"
    assert "data_path or data_dir: one of the two, found both" in ended.output
    assert not Path(milvus_lite_uri).exists()
