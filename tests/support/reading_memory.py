"""How much memory a process takes to resolve and to read a source, batch by batch as a load task does."""

from __future__ import annotations

import json
import subprocess
import sys

from airflow_provider_milvusdm.manifests import PartitionGroup, to_json
from tests.support.repository import ROOT

READER = """
import json, re, sys
import h5py, faiss, numpy
import airflow_provider_milvusdm.sources.faiss.segment
import airflow_provider_milvusdm.sources.hdf5.segment
import airflow_provider_milvusdm.sources.milvus1x.segment
from airflow_provider_milvusdm.manifests import PartitionGroup, from_json
from airflow_provider_milvusdm.model.rows import ranges
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.registry import open_source

def status(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

group = from_json(PartitionGroup, json.load(sys.stdin))
open("/proc/self/clear_refs", "w").write("5")  # the peak is measured from here on
before, rows = status("VmRSS"), 0
for unit in resolve_group(group).units:
    source = open_source(unit.source)
    for row_slice in unit.slices:
        segment = source.segment(unit.collection, row_slice.segment)
        for bounds in ranges(row_slice.start, row_slice.stop, (8 << 20) // unit.collection.vector_bytes):
            rows += len(segment.read(*bounds))
print(json.dumps([rows, status("VmHWM") - before]))
"""


def read_elsewhere(group: PartitionGroup) -> tuple[int, int]:
    """Number of rows read, and peak memory in bytes without that of the imports, including mapped files."""
    result = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps(to_json(group)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows, peak = json.loads(result.stdout)
    return rows, peak
