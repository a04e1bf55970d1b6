"""What raises the recall of a search: other search params, or another index.

Sources: the index reference of Milvus 2.x, and the defaults of its index library Knowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_milvusdm.report import SearchReport, SearchTrial
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec

Params = Mapping[str, Any]

IVF = ("IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN", "BIN_IVF_FLAT")
EXACT = ("FLAT", "BIN_FLAT")
NPROBE = 8
"""What Milvus searches where no ``nprobe`` is given."""
GROWING: dict[str, tuple[str, tuple[int, ...]]] = {
    "HNSW": ("ef", (64, 256, 1024)),
    "DISKANN": ("search_list", (64, 256, 1024)),
}
"""Of other indexes: the param that trades speed for recall, and values of it."""
SETTINGS = 3


def settings_to_try(index: IndexSpec, params: Params) -> list[dict[str, Any]]:
    """Search params that find more than ``params`` do, at most three, in ascending order of what they cost."""
    if index.index_type in IVF:
        used, lists = int(params.get("nprobe", NPROBE)), int(index.params.get("nlist", 128))
        name, values = "nprobe", sorted({min(used * factor, lists) for factor in (4, 16, 64)})
    elif index.index_type in GROWING:
        name, choices = GROWING[index.index_type]
        used, values = int(params.get(name, 0)), list(choices)
    else:
        return []
    return [{**params, name: value} for value in values if value > used][:SETTINGS]


def advise(index: IndexSpec, found: SearchReport, wanted: float) -> str:
    """The cure for a recall below ``wanted``, as sentences."""
    return " ".join(_sentences(index, found.tried, wanted))


def _sentences(index: IndexSpec, tried: Sequence[SearchTrial], wanted: float) -> Iterator[str]:
    enough = next((trial for trial in tried if trial.recall >= wanted), None)
    if tried:
        yield f"With {', '.join(map(str, tried))}."
    if enough:
        yield f"Set search_params to {enough.as_json()}, with which your application must search then, too,"
        yield f"or choose another index: {_other_index(index)}."
    elif index.index_type in EXACT:
        yield "The index is exact, so the rows themselves differ: set verify to full."
    else:
        yield f"Choose another index: {_other_index(index)}."


def _other_index(index: IndexSpec) -> str:
    if index.metric.is_binary:
        return 'target: {"index_type": "BIN_FLAT"} is exact'
    if index.index_type == "HNSW":
        return 'target: {"index_type": "FLAT"} is exact'
    return 'target: {"index_type": "HNSW"} finds more, {"index_type": "FLAT"} is exact'
