"""The metric and the index type of a Faiss index, in Milvus's names."""

from __future__ import annotations

from typing import Any

import faiss

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.model.collections import Metric

WRAPPERS: tuple[Any, ...] = (faiss.IndexIDMap, faiss.IndexPreTransform)
METRICS = {faiss.METRIC_L2: Metric.L2, faiss.METRIC_INNER_PRODUCT: Metric.IP}


def choose_metric(index: Any, wanted: Metric | None) -> tuple[Metric, str]:
    """The user's metric or the index's, and a note if they differ. Raises ConfigurationError."""
    is_binary = isinstance(index, faiss.IndexBinary)
    own = Metric.HAMMING if is_binary else METRICS.get(index.metric_type)
    if wanted is None and own is None:
        raise ConfigurationError(
            "the index has a metric that Milvus doesn't have",
            expected="L2 or inner product",
            found=f"Faiss metric {_metric_name(index.metric_type)}",
            cure="Choose the metric to use: metric_type.",
        )
    metric = wanted or own or Metric.L2
    if metric.is_binary != is_binary:
        raise ConfigurationError(
            "the metric does not fit the vectors",
            expected=", ".join(fitting for fitting in Metric if fitting.is_binary == is_binary),
            found=metric,
            cure="Choose a metric that fits, or none: the index has one.",
        )
    if metric == own:
        return metric, ""
    return metric, f"metric {metric} was chosen; the index's is {own or _metric_name(index.metric_type)}"


def _metric_name(number: int) -> str:
    names = [name for name in dir(faiss) if name.startswith("METRIC_") and getattr(faiss, name) == number]
    return names[0] if names else str(number)


def index_type(index: Any) -> tuple[str, dict[str, int]]:
    """Index type and params as Milvus 1.x names them; FLAT if it has no such index."""
    if isinstance(index, WRAPPERS):
        return index_type(faiss.downcast_index(index.index))
    if isinstance(index, faiss.IndexRefine):
        return index_type(faiss.downcast_index(index.base_index))
    if isinstance(index, faiss.IndexBinaryIDMap):
        return index_type(faiss.downcast_IndexBinary(index.index))
    if isinstance(index, faiss.IndexBinaryIVF):
        return "BIN_IVF_FLAT", {"nlist": index.nlist}
    if isinstance(index, faiss.IndexIVF):
        return _ivf_type(index)
    if isinstance(index, faiss.IndexHNSW):
        graph: Any = index.hnsw
        return "HNSW", {"M": graph.nb_neighbors(1), "efConstruction": graph.efConstruction}
    if isinstance(index, faiss.IndexNSG):
        return "RNSG", {}
    return ("BIN_FLAT" if isinstance(index, faiss.IndexBinary) else "FLAT"), {}


def _ivf_type(index: Any) -> tuple[str, dict[str, int]]:
    if isinstance(index, faiss.IndexIVFPQ):
        return "IVF_PQ", {"nlist": index.nlist, "m": index.pq.M}
    if isinstance(index, faiss.IndexIVFScalarQuantizer) and index.sq.qtype == faiss.ScalarQuantizer.QT_8bit:
        return "IVF_SQ8", {"nlist": index.nlist}
    return "IVF_FLAT", {"nlist": index.nlist}
