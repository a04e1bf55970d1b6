"""Search vectors of the source in the finished target, and compare the hits with the exact nearest neighbours."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.manifests import CollectionPlan
from airflow_provider_milvusdm.model.collections import Metric, TargetCollection
from airflow_provider_milvusdm.model.rows import rows_within
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.report import SearchReport, SearchTrial
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.server.queries import filter_tag, vector_bytes
from airflow_provider_milvusdm.targets.milvus.verify.nearest import DISTANCES, Nearest, distances
from airflow_provider_milvusdm.targets.milvus.verify.search_advice import settings_to_try

if TYPE_CHECKING:
    from pymilvus import MilvusClient

LIMIT = 10
"""Number of hits that a search asks for."""
SEARCHED_BYTES = 8 << 20
"""Bytes of source vectors, or of their distances, that are compared with all queries at once."""
DISTANCE_BYTES = 8
ROUNDING = 1e-5
"""Relative error of an index's distances, which it computes in float32."""


@dataclass(frozen=True)
class SearchCheck:
    """How many vectors to search, the recall below which verification fails, and params of the search."""

    queries: int = 0
    recall: float = 0.9
    params: Mapping[str, Any] = field(default_factory=dict)


def measure_search(
    client: MilvusClient, plan: CollectionPlan, partitions: Collection[str], index: IndexSpec, check: SearchCheck
) -> SearchReport | None:
    """Recall and latency of searches in these target partitions; None where nothing can be compared.

    A hit counts where it is at least as near as the last exact neighbour, so that rows at the same distance are equal.
    Where the recall is too low, it is measured with other search params, too.
    """
    metric = index.metric
    units = [unit for unit in plan.units if unit.stored_rows]
    vectors = _sample(units, check.queries, "".join(partition.fingerprint for partition in plan.partitions))
    if metric not in DISTANCES or not len(vectors):
        return None
    tags = {tag for tag, name in plan.partition_names.items() if name in partitions}
    nearest = Nearest(metric, vectors, LIMIT)
    max_rows = max(SEARCHED_BYTES // DISTANCE_BYTES // len(vectors), 1)
    for unit in units:
        row_slices = [row_slice for row_slice in unit.slices if row_slice.partition in tags]
        rows = min(rows_within(unit.collection, SEARCHED_BYTES), max_rows)
        for _, _, batch in read_slices(unit.source, unit.collection, row_slices, rows):
            nearest.add(batch.ids, batch.vectors)
    search = _Search(client, plan, sorted(partitions))
    recall, milliseconds = search.measure(metric, vectors, nearest, check.params)
    others = settings_to_try(index, check.params) if recall < check.recall else []
    return SearchReport(
        queries=len(vectors),
        limit=LIMIT,
        recall=recall,
        median_ms=float(np.median(milliseconds)),
        slow_ms=float(np.percentile(milliseconds, 95)),
        params=dict(check.params),
        tried=tuple(SearchTrial(params, search.measure(metric, vectors, nearest, params)[0]) for params in others),
    )


def _sample(units: Sequence[LoadUnit], rows: int, seed: str) -> npt.NDArray[Any]:
    """Random vectors of the source, the same for the same ``seed``: shape (n, dimension), n at most ``rows``."""
    random = np.random.default_rng(int(seed or "0", 16))
    ends = np.cumsum([unit.stored_rows for unit in units])
    places = random.integers(0, ends[-1], rows).tolist() if units else []
    found = []
    for place in places:
        number = int(np.searchsorted(ends, place, side="right"))
        unit = units[number]
        start = int(place - ends[number]) + unit.stored_rows
        batches = read_slices(unit.source, unit.collection, unit.slices, LIMIT, start)
        found += next(([batch.vectors[0]] for _, _, batch in batches if len(batch)), [])
    return np.stack(found) if found else np.empty(0)


class _Search:
    """Searches of one collection."""

    def __init__(self, client: MilvusClient, plan: CollectionPlan, partitions: Sequence[str]) -> None:
        self.client, self.target = client, plan.target
        self.within = {} if plan.whole else _within(plan.target, partitions)

    def measure(
        self, metric: Metric, vectors: npt.NDArray[Any], nearest: Nearest, params: Mapping[str, Any]
    ) -> tuple[float, list[float]]:
        """Recall of searches for ``vectors``, shape (n, dimension), and the milliseconds that each took."""
        found, milliseconds = 0, []
        for query, farthest in zip(vectors, nearest.farthest.tolist(), strict=True):
            hits, seconds = self.hits(query, params)
            near = distances(metric, query[None], hits)[0] <= farthest + ROUNDING * max(abs(farthest), 1)
            found += int(np.count_nonzero(near))
            milliseconds.append(seconds * 1000)
        return found / nearest.count, milliseconds

    def hits(self, vector: npt.NDArray[Any], params: Mapping[str, Any]) -> tuple[npt.NDArray[Any], float]:
        """Vectors of the hits, shape (n, dimension), and the seconds of a search that returns no vectors."""
        started = time.monotonic()
        self._search(vector, params, [])
        seconds = time.monotonic() - started
        field = self.target.vector_field
        hits = self._search(vector, params, [field])
        found = [np.frombuffer(vector_bytes(hit["entity"][field]), vector.dtype) for hit in hits]
        return np.stack(found) if found else np.empty((0, len(vector)), vector.dtype), seconds

    def _search(self, vector: npt.NDArray[Any], params: Mapping[str, Any], output_fields: list[str]) -> list[Any]:
        [hits] = self.client.search(
            self.target.name,
            data=[vector.tobytes() if vector.dtype == np.uint8 else vector.tolist()],
            anns_field=self.target.vector_field,
            limit=LIMIT,
            search_params={"params": dict(params)},
            output_fields=output_fields,
            consistency_level="Strong",
            **self.within,
        )
        return list(hits)


def _within(target: TargetCollection, partitions: Sequence[str]) -> dict[str, Any]:
    """Arguments that limit a search to these partitions, or partition keys."""
    if not target.partition_field:
        return {"partition_names": list(partitions)}
    return {"filter": " or ".join(filter_tag(target.partition_field, tag) for tag in partitions)}
