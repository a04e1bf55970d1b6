"""The metric of the vectors in HDF5 files: the user's choice, or what the files propose."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.model.collections import Metric

DISTANCES = {
    "angular": Metric.COSINE,
    "cosine": Metric.COSINE,
    "euclidean": Metric.L2,
    "l2": Metric.L2,
    "dot": Metric.IP,
    "ip": Metric.IP,
    "hamming": Metric.HAMMING,
    "jaccard": Metric.JACCARD,
}
"""Values of the attribute ``distance``. Source: ann-benchmarks' ``ann_benchmarks/distance.py``."""


def choose_metric(wanted: Metric | None, distances: Sequence[str], is_binary: bool) -> tuple[Metric, str]:
    """The metric, and a note if the user didn't choose it or the files propose another one.

    ``distances``: the attribute ``distance`` of each file. Raises ConfigurationError.
    """
    stated = sorted({distance.lower() for distance in distances if distance})
    if wanted is None:
        metric, note = _propose(stated, is_binary)
    else:
        metric, note = wanted, _contradiction(wanted, stated)
    if metric.is_binary != is_binary:
        raise ConfigurationError(
            "the metric does not fit the vectors",
            expected=_list_fitting(is_binary),
            found=metric if wanted else f"{metric}, from the attribute distance: {stated[0]!r}",
            cure="Name a metric that fits, or the dataset that the metric is for.",
        )
    return metric, note


def _propose(stated: Sequence[str], is_binary: bool) -> tuple[Metric, str]:
    if not stated:
        metric = Metric.HAMMING if is_binary else Metric.L2
        return metric, f"metric {metric}: none was chosen, and the files propose none"
    if len(stated) > 1 or stated[0] not in DISTANCES:
        raise ConfigurationError(
            "the files propose no metric that can be used",
            expected=f"the same attribute distance in all files: {', '.join(DISTANCES)}",
            found=", ".join(map(repr, stated)),
            cure="Choose the metric: metric_type.",
        )
    return DISTANCES[stated[0]], f"metric {DISTANCES[stated[0]]}: proposed by the attribute distance: {stated[0]!r}"


def _contradiction(wanted: Metric, stated: Sequence[str]) -> str:
    others = [distance for distance in stated if DISTANCES.get(distance) != wanted]
    return f"metric {wanted} was chosen; the attribute distance says {', '.join(others)}" if others else ""


def _list_fitting(is_binary: bool) -> str:
    fitting = [metric for metric in Metric if metric.is_binary == is_binary]
    return f"one for {'binary' if is_binary else 'float'} vectors: {', '.join(fitting)}"
