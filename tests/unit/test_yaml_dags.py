"""A folder of YAML files as DAGs: a DAG for each valid file, and an error for each other file."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.yaml_dags import config_dir, make_dags, refuse_broken_files

GOOD = {
    "to milvus": "M2M: {source_milvus_path: /data/milvus, mode: append}",
    "hdf5": "H2M: {data_dir: /data, dest_collection_name: news, target: {metric_type: COSINE}, ids_dataset: null, "
    "schedule: '@daily'}",
    "faiss": "F2M: {data_path: /data/a.index, dest_collection_name: news, dest_partition_name: ''}",
    "export": "M2H: {source_milvus_path: /data/milvus, data_dir: /data/hdf5, mysql_parameter: {host: '', user: }}",
}
SCHEDULED = """\
M2M:
  source_milvus_path: /data/milvus
  schedule: 30 4 * * *
  start_date: 2026-01-31
  tags: [search, nightly]
  owner: search team
  retries: 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILVUSDM_CONFIG_DIR", str(tmp_path))
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def faults() -> str:
    """The message of the import error."""
    with pytest.raises(ConfigurationError) as fault:
        refuse_broken_files()
    return str(fault.value)


def test_each_file_is_a_dag_named_after_it_with_its_values_as_defaults(folder: Path) -> None:
    write(folder, GOOD)
    (folder / "other.yml").write_text(GOOD["export"])
    (folder / "README.md").write_text("not a job")
    dags = make_dags()
    refuse_broken_files()
    assert sorted(dags) == ["export", "faiss", "hdf5", "other", "to_milvus"]
    assert dags["to_milvus"].params["source_milvus_path"] == "/data/milvus"
    assert dags["to_milvus"].params["mode"] == "append"
    assert dags["to_milvus"].params["verify"] == "full"
    assert dags["hdf5"].params["target"] == {"metric_type": "COSINE"}
    assert dags["hdf5"].params["ids_dataset"] is None
    assert dags["faiss"].params["data_path"] == "/data/a.index"
    assert "export_partitions" in dags["export"].task_dict
    for dag in dags.values():
        dag.validate()
        json.dumps(DagSerialization.to_dict(dag))


def test_a_schedule_and_the_other_arguments_of_the_dag(folder: Path) -> None:
    write(folder, {"nightly": SCHEDULED, "by_hand": GOOD["to milvus"]})
    dags = make_dags()
    nightly, by_hand = dags["nightly"], dags["by_hand"]
    assert (nightly.schedule, by_hand.schedule) == ("30 4 * * *", None)
    assert nightly.start_date == datetime(2026, 1, 31, tzinfo=UTC)
    assert nightly.tags == {"search", "nightly", "milvus", "migration"}
    assert nightly.owner == "search team"
    assert {task.retries for task in nightly.tasks} == {7}
    assert {task.retries for task in by_hand.tasks} == {3}
    assert not nightly.catchup


def test_a_dag_shows_its_file_without_comments(folder: Path) -> None:
    write(folder, {"my news": "# password: s3cret\n" + SCHEDULED + "\n  # s3cret\n"})
    [dag] = make_dags().values()
    assert (dag.dag_id, dag.dag_display_name) == ("my_news", "my news: Milvus 1.x → Milvus 2.x")
    assert "### If a run fails" in str(dag.doc_md)
    assert "\n    M2M:\n" in str(dag.doc_md)
    assert "\n      owner: search team\n" in str(dag.doc_md)
    assert "s3cret" not in str(dag.doc_md)


BROKEN = {
    "unknown": ("M2M: {source_milvus_path: /data, mod: skip}", "mod: there is no such param; did you mean mode?"),
    "secret": (
        "M2M: {source_milvus_path: /data, mysql_parameter: {host: db, password: s3cret}}",
        "xpected mysql_conn_id, because an Airflow connection keeps the password",
    ),
    "misspelt": ("M2M: {source_milvus_path: /data, mysql_paramter: {password: s3cret}}", "mysql_paramter: there is no"),
    "foreign": ("H2M: {data_dir: /d, dest_collection_name: a, mysql_parameter: {password: s3cret}}", "no such param"),
    "several": ("\n".join([GOOD["faiss"], GOOD["export"]]), "found F2M, M2H"),
    "not_yaml": ("M2M: [s3cret", "ot a YAML file"),
    "no_job": ("", "without a job"),
    "cron": ("M2M: {source_milvus_path: /data, schedule: every day}", "No DAG can be made of a YAML file"),
    "milvusdm_m2m": (GOOD["to milvus"], "ound milvusdm_m2m, which is also the id of the template of M2M"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_does_not_affect_the_others(folder: Path, name: str) -> None:
    text, part = BROKEN[name]
    write(folder, {**GOOD, name: text})
    assert sorted(make_dags()) == ["export", "faiss", "hdf5", "to_milvus"]
    found = faults()
    assert str(folder / f"{name}.yaml") in found
    assert part in found
    assert "s3cret" not in found


def test_all_broken_files_are_told_at_once(folder: Path) -> None:
    write(folder, {**GOOD, **{name: text for name, (text, _) in BROKEN.items()}})
    found = faults()
    assert f"{len(BROKEN)} YAML files can't become DAGs" in found
    assert all(str(folder / f"{name}.yaml") in found for name in BROKEN)


def test_special_files_are_ignored(folder: Path) -> None:
    """A FIFO that is opened would block Airflow's DAG processor forever."""
    write(folder, GOOD)
    os.mkfifo(folder / "pipe.yaml")
    (folder / "device.yaml").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.yml"))
        assert sorted(make_dags()) == ["export", "faiss", "hdf5", "to_milvus"]
        refuse_broken_files()


def test_a_dangling_link_is_an_error(folder: Path) -> None:
    (folder / "gone.yaml").symlink_to(folder / "nowhere")
    assert str(folder / "gone.yaml") in faults()


def test_two_files_for_the_same_dag_are_an_error(folder: Path) -> None:
    write(folder, {"a b": GOOD["faiss"], "a_b": GOOD["faiss"]})
    assert sorted(make_dags()) == ["a_b"]
    assert "Two DAGs would have the same id" in faults()


def test_without_a_folder_there_are_no_dags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUSDM_CONFIG_DIR", raising=False)
    assert config_dir() is None
    assert make_dags() == {}
    refuse_broken_files()


def test_a_missing_folder_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUSDM_CONFIG_DIR", str(folder / "missing"))
    assert make_dags() == {}
    assert str(folder / "missing") in faults()


def test_the_folder_may_be_set_in_airflows_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUSDM_CONFIG_DIR", raising=False)
    monkeypatch.setenv("AIRFLOW__MILVUSDM__CONFIG_DIR", str(tmp_path))
    assert config_dir() == tmp_path
