"""How much memory a call takes in a process of its own: loading a unit, say, as a load task does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.model.units import LoadUnit

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LOADING = (
    "faiss",
    "airflow_provider_milvusdm.sources.faiss.segment",
    "airflow_provider_milvusdm.sources.hdf5.segment",
    "airflow_provider_milvusdm.sources.milvus1x.segment",
    "airflow_provider_milvusdm.targets.milvus.server.requests",
    "airflow_provider_milvusdm.targets.milvus.load.writer",
)


class Store(dict[str, Any]):
    """Checkpoints that end with the process."""

    set = dict.__setitem__


def load_elsewhere(uri: str, unit: LoadUnit) -> tuple[int, int]:
    """Load a unit in a process of its own; its live rows, and the peak of memory."""
    return peak_memory(_load, uri, unit, imports=LOADING)


def peak_memory(call: Callable[..., Any], *arguments: Any, imports: Sequence[str]) -> tuple[Any, int]:
    """What ``call`` returns, and the most bytes it takes above what its imports take; mapped files are counted."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        return processes.submit(_measured, call, arguments, imports).result()


def _measured(call: Callable[..., Any], arguments: Sequence[Any], imports: Sequence[str]) -> tuple[Any, int]:
    for name in imports:
        import_module(name)
    CLEAR_REFS.write_text("5")  # the peak is counted from here
    before = _bytes("VmRSS")
    result = call(*arguments)
    return result, _bytes("VmHWM") - before


def _bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    if found is None:
        raise LookupError(f"no {name} in {STATUS}")
    return int(found[1]) << 10


def _load(uri: str, unit: LoadUnit) -> int:
    from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
    from tests.support.targets import milvus_client

    with milvus_client(uri) as client:
        return sum(load_unit(client, unit, Store()).rows.values())
