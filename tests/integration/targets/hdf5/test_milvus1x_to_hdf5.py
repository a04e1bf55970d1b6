"""Milvus 1.x into HDF5 files, and from there into Milvus 2.x: the rows stay the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_milvusdm.config.yaml_file import read_yaml
from airflow_provider_milvusdm.exceptions import FolderNotSharedError, TargetError
from airflow_provider_milvusdm.manifests import ExportUnit, from_json, to_json
from airflow_provider_milvusdm.model.collections import Metric
from airflow_provider_milvusdm.operators.hdf5 import Hdf5UnitsOperator
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.targets.hdf5.export import export_partition, export_units
from airflow_provider_milvusdm.targets.hdf5.run_folder import marker_of, write_marker
from airflow_provider_milvusdm.targets.hdf5.verify import planned_export, verify_export
from tests.support.chain import GroupsChain, export, inspect_directory, mark_folder, plan_groups
from tests.support.collections_2x import stored
from tests.support.directories import random_vectors, write_directory
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING, IP
from tests.support.tree_checksum import tree_checksum
from tests.support.xcom import XComs

LOWEST_ID = -(2**63)
TAG = "2021-03 news"


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    """Floats in three partitions, one of them empty; binary vectors; deleted rows."""
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8, metric=IP)
    ids = [LOWEST_ID, -7, 0, *range(100, 2000)]
    directory.segment(news, ids, random_vectors(len(ids), 1), deleted=[1, 5])
    directory.segment(news, [5000, -5000], random_vectors(2, 2))
    directory.segment(directory.partition(news, TAG), [1, 2, 3], random_vectors(3, 3))
    directory.partition(news, "empty")
    bits = directory.collection("bits", dimension=64, metric=HAMMING)
    vectors = np.random.default_rng(4).integers(0, 256, (500, 8), np.uint8)
    directory.segment(bits, range(-250, 250), vectors, deleted=[0])
    directory.write()
    return directory


def rows_of(path: Path) -> dict[int, bytes]:
    with h5py.File(path) as file:
        ids, vectors = file["ids"][:], file["embeddings"][:]
    assert ids.dtype == np.int64
    assert len(set(ids.tolist())) == len(ids)
    return {int(row_id): vector.tobytes() for row_id, vector in zip(ids, vectors, strict=True)}


def test_each_partition_is_a_file_of_milvusdms_layout(directory, tmp_path):
    before = tree_checksum(directory.path)
    reports = export(inspect_directory(directory.path, unit_bytes=20_000), tmp_path / "out")

    assert {report.status for report in reports.values()} == {VERIFIED}
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.h5*")}
    assert files == {"news/_default.h5", "news/_2021_03_news.h5", "news/empty.h5", "bits/_default.h5"}
    assert rows_of(tmp_path / "out/news/_default.h5") == directory.live("news")
    assert rows_of(tmp_path / "out/news/_2021_03_news.h5") == directory.live("news", TAG)
    assert rows_of(tmp_path / "out/news/empty.h5") == {}
    assert rows_of(tmp_path / "out/bits/_default.h5") == directory.live("bits")
    assert tree_checksum(directory.path) == before


def test_the_report_counts_what_is_in_the_files(directory, tmp_path):
    report = export(inspect_directory(directory.path), tmp_path / "out")["news"]
    counts = {part.partition: (part.live, part.deleted, part.loaded, part.counted) for part in report.partitions}
    assert counts == {"_default": (1903, 2, 1903, 1903), TAG: (3, 0, 3, 3), "empty": (0, 0, 0, 0)}
    assert (report.metric, report.target_metric, report.sampled) == ("IP", "IP", 1906)


def round_trip(directory, client, collection, folder):
    """Load each file of a collection as the YAML beside it says, and return what is stored."""
    export(inspect_directory(directory.path, collection), folder)
    for path in sorted((folder / collection).glob("*.yaml")):
        [job] = read_yaml(path)
        parameter = job.params["collection_parameter"]
        [file] = job.params["data_path"]
        partition = job.params["dest_partition_name"]
        group = inspect_hdf5(
            Path(file),
            name=job.params["dest_collection_name"],
            partition=partition or "_default",
            dimension=parameter["dimension"],
            metric=Metric(parameter["metric_type"]),
        )
        group = type(group)(**{**vars(group), "whole": not partition})
        report = GroupsChain([group], client).run(mode=job.params["mode"])[collection]
        assert (report.status, report.faults) == (VERIFIED, ())
    return stored(client, collection)


def test_floats_make_the_round_trip_bit_for_bit(directory, client, tmp_path):
    assert round_trip(directory, client, "news", tmp_path / "out") == {
        "_default": directory.live("news"),
        "_2021_03_news": directory.live("news", TAG),
        "empty": {},
    }


def test_binary_vectors_make_the_round_trip_bit_for_bit(directory, server_client, tmp_path):
    found = round_trip(directory, server_client, "bits", tmp_path / "out")
    assert found == {"_default": directory.live("bits")}


@pytest.mark.parametrize("length", [250, 255])
def test_a_tag_as_long_as_a_name_can_be_is_exported(tmp_path, length):
    tags = ["x" * (length - 1) + last for last in "ab"]
    directory = write_directory(tmp_path / "milvus", {"news": {tag: range(9) for tag in tags}})
    report = export(inspect_directory(directory.path), tmp_path / "out")["news"]
    assert report.status == VERIFIED
    files = {part.partition: tmp_path / "out" / "news" / part.target for part in report.partitions}
    assert {tag: rows_of(files[tag]) for tag in tags} == {tag: directory.live("news", tag) for tag in tags}
    loads = [read_yaml(files[tag].with_suffix(".yaml"))[0].params for tag in tags]
    assert [load["dest_partition_name"] for load in loads] == tags
    assert [load["data_path"] for load in loads] == [[str(files[tag])] for tag in tags]


def test_a_file_exists_only_when_it_is_complete(tmp_path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    [plan] = plan_groups(inspect_directory(directory.path))
    [unit] = export_units([plan], mark_folder(tmp_path / "out"))
    more = type(unit)(**{**vars(unit), "rows": 101})
    with pytest.raises(TargetError, match="changed while it was read"):
        export_partition(more)
    folder = tmp_path / "out" / "news"
    assert [path.suffix for path in folder.iterdir()] == [".part"]

    exported = export_partition(unit)
    assert sorted(path.name for path in folder.iterdir()) == ["_default.h5", "_default.yaml"]
    assert verify_export(plan, [exported]).status == VERIFIED


KILLED = """
import json, os, signal, sys
from airflow_provider_milvusdm.manifests import ExportUnit, from_json
from airflow_provider_milvusdm.targets.hdf5 import export

read_slices = export.read_slices

def read_and_die(*arguments):
    for number, batch in enumerate(read_slices(*arguments)):
        if number == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

export.read_slices, export.rows_within = read_and_die, lambda collection: 10
export.export_partition(from_json(ExportUnit, json.load(sys.stdin)))
"""
"""Exports a partition in batches of ten rows, until it is killed before one of them is written."""


@pytest.mark.parametrize("batch", [0, 5, 9])
def test_an_export_that_is_killed_leaves_no_file_and_is_repeated(tmp_path, batch):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    [plan] = plan_groups(inspect_directory(directory.path))
    [unit] = export_units([plan], mark_folder(tmp_path / "out"))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(batch)], input=json.dumps(to_json(unit)), text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "out" / "news"
    assert [path.suffix for path in folder.iterdir()] == [".part"]

    exported = export_partition(unit)
    assert sorted(path.name for path in folder.iterdir()) == ["_default.h5", "_default.yaml"]
    assert rows_of(folder / "_default.h5") == directory.live("news")
    assert verify_export(plan, [exported]).status == VERIFIED


def test_an_export_that_slept_writes_nothing_into_the_file_of_another(tmp_path, monkeypatch):
    written = [write_directory(tmp_path / str(seed), {"news": {"_default": range(100)}}, seed=seed) for seed in (1, 2)]
    plans = [plan_groups(inspect_directory(directory.path)) for directory in written]
    [first, second] = [export_units(run, mark_folder(tmp_path / "out"))[0] for run in plans]
    module = "airflow_provider_milvusdm.targets.hdf5.export"

    def overtaken(*arguments):
        monkeypatch.setattr(f"{module}.read_slices", read_slices)
        pieces = read_slices(*arguments)
        yield next(pieces)
        export_partition(second)
        yield from pieces

    monkeypatch.setattr(f"{module}.read_slices", overtaken)
    monkeypatch.setattr(f"{module}.rows_within", lambda collection: 10)
    with pytest.raises(FileNotFoundError):
        export_partition(first)
    folder = tmp_path / "out" / "news"
    assert sorted(path.name for path in folder.iterdir()) == ["_default.h5", "_default.yaml"]
    assert rows_of(folder / "_default.h5") == written[1].live("news")


@pytest.mark.parametrize("left", ["no folder", "a folder of an earlier try"])
def test_on_another_disk_than_that_of_the_run_nothing_is_exported_or_verified(tmp_path, left):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    [plan] = plan_groups(inspect_directory(directory.path))
    data_dir, folder, disk = tmp_path / "out", tmp_path / "out" / "run", tmp_path / "disk"
    [unit] = export_units([plan], mark_folder(folder))

    def change_disks():
        data_dir.rename(tmp_path / "moved")
        if disk.exists():
            disk.rename(data_dir)
        (tmp_path / "moved").rename(disk)

    if left == "a folder of an earlier try":
        (disk / "run").mkdir(parents=True)
        mark_folder(disk / "run")
    else:
        disk.mkdir()
    change_disks()
    before = tree_checksum(data_dir)
    with pytest.raises(FolderNotSharedError, match=r"does not see the folder .*/out/run\. Expected the file"):
        export_partition(unit)
    assert tree_checksum(data_dir) == before

    change_disks()
    exported = export_partition(unit)
    assert verify_export(plan, [exported]).status == VERIFIED
    change_disks()
    with pytest.raises(FolderNotSharedError):
        verify_export(plan, [exported])


def test_a_folder_that_was_removed_is_made_again_by_a_run_that_is_cleared(tmp_path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    assert mark_folder(tmp_path / "out") == mark_folder(tmp_path / "out")
    [plan] = plan_groups(inspect_directory(directory.path))
    [unit] = export_units([plan], mark_folder(tmp_path / "out"))
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(FolderNotSharedError, match="If the folder was removed, clear the whole run"):
        export_partition(unit)
    assert export(inspect_directory(directory.path), tmp_path / "out")["news"].status == VERIFIED


class ExportRun:
    """The step that creates the folder of a run, as Airflow repeats it: its task state is kept."""

    def __init__(self, directory: Path, data_dir: Path) -> None:
        self.data_dir, self.xcoms = data_dir, XComs()
        self.groups = [list(map(to_json, plan_groups(inspect_directory(directory))))]

    def list_units(self) -> list[ExportUnit]:
        units = Hdf5UnitsOperator(task_id="units", collections=self.groups, data_dir=str(self.data_dir), run="export/1")
        return [from_json(ExportUnit, unit) for unit in self.xcoms.manifests(*self.xcoms.run(units))]


def test_a_run_overwrites_no_files_of_a_run_of_the_same_name_in_another_airflow(tmp_path):
    written = [write_directory(tmp_path / str(seed), {"news": {"_default": range(100)}}, seed=seed) for seed in (1, 2)]
    first, second = [ExportRun(directory.path, tmp_path / "out") for directory in written]
    [unit] = first.list_units()
    export_partition(unit)
    before = tree_checksum(tmp_path / "out")
    with pytest.raises(AirflowFailException, match="has those of another run"):
        second.list_units()
    assert tree_checksum(tmp_path / "out") == before

    assert first.list_units() == [unit]
    (tmp_path / "out").rename(tmp_path / "moved")
    [other] = second.list_units()
    export_partition(other)
    assert rows_of(Path(other.path)) == written[1].live("news")


def test_of_two_runs_that_create_a_folder_at_the_same_moment_not_both_export(tmp_path, monkeypatch):
    mine, others = (marker_of(tmp_path / "out", []) for _ in range(2))
    touch = Path.touch

    def overtaken(path):
        monkeypatch.setattr(Path, "touch", touch)
        write_marker(others)
        path.touch()

    monkeypatch.setattr(Path, "touch", overtaken)
    with pytest.raises(TargetError, match="has those of another run"):
        write_marker(mine)
    assert list((tmp_path / "out").iterdir()) == [others]


def test_a_partition_that_was_not_exported_is_a_fault(tmp_path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    [plan] = plan_groups(inspect_directory(directory.path))
    [fault] = verify_export(plan, []).faults
    assert fault == "partitions _default were not exported: see the logs of units and export_partitions"


def test_a_file_that_was_changed_afterwards_is_found(tmp_path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    [plan] = plan_groups(inspect_directory(directory.path))
    exported = export_partition(export_units([plan], mark_folder(tmp_path / "out"))[0])
    with h5py.File(exported.path, "a") as file:
        file["embeddings"][50, 3] += 1
    [fault] = verify_export(plan, [exported]).faults
    assert "_default.h5: its 100 rows are not the 100 rows that resolve_ids read" in fault


@pytest.mark.parametrize("suffix", ["rv", "uid"])
def test_rows_that_the_export_read_otherwise_than_resolve_are_found(tmp_path, suffix):
    """From a copy on another worker whose files have the same size and time."""
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    [plan] = plan_groups(inspect_directory(directory.path))
    [file] = directory.path.rglob(f"*.{suffix}")
    before, data = file.stat(), bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    exported = export_partition(export_units([plan], mark_folder(tmp_path / "out"))[0])
    assert len(verify_export(plan, [exported]).faults) == 1


def test_a_file_of_a_partition_dropped_before_the_run_was_cleared_is_a_fault(tmp_path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100), "a": range(10)}})
    assert export(inspect_directory(directory.path), tmp_path / "out")["news"].status == VERIFIED
    report = export(inspect_directory(directory.path, {"news": ["_default"]}), tmp_path / "out")["news"]
    [fault] = report.faults
    assert fault.startswith(f"{tmp_path}/out/news/a.h5: written by an earlier try of this run")


def test_the_yaml_beside_a_file_is_a_job_of_milvusdm(directory, tmp_path):
    export(inspect_directory(directory.path, "news"), tmp_path / "out")
    job = yaml.safe_load((tmp_path / "out/news/_2021_03_news.yaml").read_text())["H2M"]
    assert job["data_path"] == [str(tmp_path / "out/news/_2021_03_news.h5")]
    assert (job["dest_collection_name"], job["dest_partition_name"]) == ("news", "_2021_03_news")
    assert job["collection_parameter"] == {"dimension": 8, "index_file_size": 1024, "metric_type": "IP"}


def test_a_plan_alone_writes_nothing(directory, tmp_path):
    [report] = [planned_export(plan) for plan in plan_groups(inspect_directory(directory.path, "news"))]
    assert (report.status, report.action) == ("planned", "would be exported")
    assert [part.target for part in report.partitions] == ["_default.h5", "_2021_03_news.h5", "empty.h5"]
    assert "1906 rows" in report.notes[-1]
    assert list(tmp_path.iterdir()) == [directory.path]
