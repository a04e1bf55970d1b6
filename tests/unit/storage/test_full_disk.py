"""A full disk while a file is written: an error, no file, and the next run succeeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import assert_in_order
from tests.support.repository import ROOT

ROWS, DIMENSION = 4000, 64
"""1 MB of vectors."""
# For HDF5, a limit on the size of files is the same as a full disk. Python would store bytecode that is cut off at it.
LIMITED = """
import resource, sys
sys.dont_write_bytecode = True
from pathlib import Path
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.manifests import ExportUnit
from airflow_provider_milvusdm.targets.hdf5.export import export_partition
from airflow_provider_milvusdm.model.rows import RowPolicies
from tests.support.chain import mark_folder
from tests.support.reading import inspect

folder, what, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
[group] = inspect(folder / "milvus")
units = resolve_group(group).units if what == "export" else ()

def write():
    for unit in units:
        marker, rows = mark_folder(folder / "out"), group.partitions[0].live_rows
        paths = str(marker.with_name("news") / "_default.h5"), str(marker)
        export_partition(ExportUnit(unit.source, unit.collection, "_default", *paths, rows, unit.slices))
    if not units:
        resolve_group(group, RowPolicies("error", "skip", str(folder / "out")))
    return "written"

for most in (limit, resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        print(write())
    except TargetError as fault:
        print(fault)
    print([path.name for path in (folder / "out").rglob("*.h5*")])
"""


@pytest.mark.parametrize("what", ["export", "skipped rows"])
@pytest.mark.parametrize("limit", [0, 3000, 500_000])
def test_a_full_disk_ends_with_an_error_and_leaves_no_file(tmp_path: Path, what: str, limit: int) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    vectors = np.random.default_rng(1).random((ROWS, DIMENSION), np.float32)
    if what == "skipped rows":
        vectors[::2, 0] = np.nan
    directory.segment(directory.collection("news", dimension=DIMENSION), range(ROWS), vectors)
    directory.write()

    command = [sys.executable, "-c", LIMITED, str(tmp_path), what, str(limit)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    fault, left, again, there = ended.stdout.splitlines()
    assert_in_order(fault, ["File too large: ", "_default.", ". Expected room for ", "Free disk space", "run again"])
    assert (left, again, there) == ("[]", "written", "['_default.h5']")
