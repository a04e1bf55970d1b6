"""Metrics and indexes of Milvus 1.x, and what they become in Milvus 2.x.

Sources: the index and metric reference of Milvus 2.x, and ``core/src/index`` of Milvus 1.x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric

GRAPHS = ("RNSG", "SPTAG_KDT", "SPTAG_BKT", "ANNOY")
"""Indexes of Milvus 1.x that become HNSW, which does not have their params."""


@dataclass(frozen=True)
class IndexSpec:
    """An index of the target; ``notes`` say how it differs from the source's."""

    index_type: str
    metric: Metric
    params: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.index_type}({params})" if params else self.index_type


def target_metric(metric: Metric) -> tuple[Metric, tuple[str, ...]]:
    """The metric in Milvus 2.x, and a note where it is a different one."""
    if metric == Metric.TANIMOTO:
        return Metric.JACCARD, ("metric TANIMOTO is not in Milvus 2.x: JACCARD orders the same",)
    return metric, ()


def target_index(collection: CollectionSpec, supported: frozenset[str] | None = None) -> IndexSpec:
    """The source's index, or the most similar one that the target has.

    ``supported``: the index types that the target has; None: all of Milvus 2.x.
    """
    metric, notes = target_metric(collection.metric)
    index_type, params, reason = _nearest(collection, metric)
    if supported is not None and index_type not in supported:
        index_type, params, reason = "FLAT", {}, f"{index_type} is not in this target"
    if reason:
        notes += (f"index {collection.index_type} became {index_type}: {reason}",)
    if collection.index_type not in GRAPHS:
        notes += tuple(_changed(collection.index_params, params))
    return IndexSpec(index_type, metric, params, notes)


def _nearest(collection: CollectionSpec, metric: Metric) -> tuple[str, dict[str, int], str]:
    """Index type, params and, where the type differs from the source's, the reason."""
    source = collection.index_type
    if metric.is_binary:
        return _nearest_binary(collection, metric)
    if source == "FLAT":
        return "FLAT", {}, ""
    if source in ("IVF_FLAT", "IVF_SQ8"):
        return source, _nlist(collection), ""
    if source == "IVF_SQ8H":
        return "IVF_SQ8", _nlist(collection), "Milvus 2.x has no index for CPU and GPU together"
    if source == "IVF_PQ":
        return _product_quantizer(collection)
    if source == "HNSW":
        return "HNSW", _hnsw(collection), ""
    if source in GRAPHS:
        return "HNSW", _hnsw(collection), "the nearest graph index that Milvus 2.x has"
    return "FLAT", {}, "a binary index on float vectors"


def _nearest_binary(collection: CollectionSpec, metric: Metric) -> tuple[str, dict[str, int], str]:
    if metric in (Metric.SUBSTRUCTURE, Metric.SUPERSTRUCTURE):
        reason = "" if collection.index_type in ("FLAT", "BIN_FLAT") else f"the only index for {metric}"
        return "BIN_FLAT", {}, reason
    if collection.index_type == "BIN_IVF_FLAT":
        return "BIN_IVF_FLAT", _nlist(collection), ""
    reason = "" if collection.index_type in ("FLAT", "BIN_FLAT") else "the source's index is not for binary vectors"
    return "BIN_FLAT", {}, reason


def _nlist(collection: CollectionSpec) -> dict[str, int]:
    return {"nlist": _within(1, collection.index_params.get("nlist", 1024), 65536)}


def _hnsw(collection: CollectionSpec) -> dict[str, int]:
    params = collection.index_params if collection.index_type == "HNSW" else {}
    return {
        "M": _within(4, params.get("M", 16), 64),
        "efConstruction": _within(8, params.get("efConstruction", 200), 512),
    }


def _product_quantizer(collection: CollectionSpec) -> tuple[str, dict[str, int], str]:
    m = collection.index_params.get("m", 0)
    if m < 1 or collection.dimension % m:
        return "IVF_FLAT", _nlist(collection), f"its m ({m}) does not divide the dimension"
    return "IVF_PQ", _nlist(collection) | {"m": m, "nbits": 8}, ""


def _changed(source: Mapping[str, int], target: Mapping[str, int]) -> Iterator[str]:
    """A note on each param that has another value in the source, or is missing there."""
    for name in sorted(set(target) - {"nbits"}):
        if source.get(name) != target[name]:
            yield f"index param {name} became {target[name]}: the source has {source.get(name, 'none')}"


def _within(low: int, value: int, high: int) -> int:
    return min(max(value, low), high)
