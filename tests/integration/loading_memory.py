"""How much memory a process takes to load one unit, as a load task does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.manifest import to_json

ROOT = Path(__file__).parents[2]
LOADER = """
import json, re, sys
import faiss, h5py, numpy, pymilvus
from airflow_provider_milvusdm.manifest import from_json
from airflow_provider_milvusdm.sources import faiss_segment, hdf5_segment
from airflow_provider_milvusdm.targets.milvus_writer import load_unit
from airflow_provider_milvusdm.vectors import LoadUnit

def status(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

class Store(dict):
    set = dict.__setitem__

unit = from_json(LoadUnit, json.load(sys.stdin))
client = pymilvus.MilvusClient(sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here
before = status("VmRSS")
loaded = load_unit(client, unit, Store())
print(json.dumps([sum(loaded.rows.values()), status("VmHWM") - before]))
"""


@dataclass(frozen=True)
class LoadedElsewhere:
    rows: int
    peak: int
    """The most bytes taken above what the imports take, mapped files counted."""


def load_elsewhere(uri: str, unit: Any) -> LoadedElsewhere:
    """Load a unit in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", LOADER, uri],
        input=json.dumps(to_json(unit)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return LoadedElsewhere(*json.loads(result.stdout.splitlines()[-1]))
