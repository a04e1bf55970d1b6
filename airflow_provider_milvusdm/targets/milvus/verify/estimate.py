"""Estimate the disk space that a collection needs in the target, and the memory to load it with its index.

Bytes for each vector, from Milvus's index reference: IVF_SQ8 keeps one byte a dimension; IVF_PQ ``m`` codes of
``nbits`` bits; HNSW the vector and 2 ``M`` neighbours of 4 bytes; DISKANN a quarter of the vector in memory; the others
the vector itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.progress import count_of
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.server.capabilities import reports_memory

if TYPE_CHECKING:
    from pymilvus import MilvusClient

ID_BYTES = 8
ROWS_A_SECOND = 25_000
RATED_BYTES = 512
"""Size of the vectors of which a Milvus 2.3.5 on 2 cores accepts so many a second from one writer; measured by
``test_estimate.py`` below ``tests/integration`` (make test-long)."""
HELP = "mmap (target: mmap: true), a DISKANN index (target: index_type: DISKANN), or load: false help"


def estimate_target(client: MilvusClient, collection: CollectionSpec, index: IndexSpec, rows: int) -> tuple[str, ...]:
    """Notes for the report of a dry run."""
    data = rows * (collection.vector_bytes + ID_BYTES)
    memory = rows * (index_bytes(collection, index) + ID_BYTES)
    seconds = rows * max(collection.vector_bytes, RATED_BYTES) / RATED_BYTES / ROWS_A_SECOND
    minutes = count_of(round(seconds / 60), "minute") if seconds >= 60 else "less than a minute"
    notes = [
        f"{rows} rows, {size(data)} of ids and vectors; about {size(data + memory)} on the target's disk with the "
        f"index, {size(memory)} of its memory to be loaded, and {minutes} to write from one task, where the "
        f"target takes {ROWS_A_SECOND} rows of {RATED_BYTES} bytes a second: the report of a run has the rate of yours"
    ]
    available = available_memory(client)
    if available is not None and memory > available:
        notes.append(f"the target has {size(available)} of memory free, less than it needs: {HELP}")
    return tuple(notes)


def index_bytes(collection: CollectionSpec, index: IndexSpec) -> int:
    """Bytes of memory that the index needs for each vector."""
    params = index.params
    if index.index_type == "IVF_SQ8":
        return collection.dimension
    if index.index_type == "IVF_PQ":
        return -(-int(params.get("m", 1)) * int(params.get("nbits", 8)) // 8)
    if index.index_type == "HNSW":
        return collection.vector_bytes + 2 * int(params.get("M", 16)) * 4
    return collection.vector_bytes // 4 if index.index_type == "DISKANN" else collection.vector_bytes


def available_memory(client: MilvusClient) -> int | None:
    """Free memory of the target's query nodes, in bytes; None where the target does not report it."""
    if not reports_memory(client):
        return None
    from pymilvus.grpc_gen import milvus_pb2

    request = milvus_pb2.GetMetricsRequest(request=json.dumps({"metric_type": "system_info"}))
    response = client._get_connection()._stub.GetMetrics(request, timeout=10)
    if not response.response:
        return None
    return free_memory(json.loads(response.response))


def free_memory(metrics: dict[str, object]) -> int | None:
    """Free bytes of all query nodes in a ``system_info`` answer; None where it lists none."""
    nodes = [
        node["infos"].get("hardware_infos", {})
        for node in metrics.get("nodes_info", [])  # type: ignore[attr-defined]
        if node.get("infos", {}).get("type") in ("querynode", "standalone")
    ]
    return sum(node.get("memory", 0) - node.get("memory_usage", 0) for node in nodes) if nodes else None


def size(count: float) -> str:
    """A number of bytes as text with a unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
