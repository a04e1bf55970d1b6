"""Use another metric than the source: answers keep their order only where all vectors have unit length."""

from __future__ import annotations

import numpy as np

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan
from airflow_provider_milvusdm.model.collections import Metric
from airflow_provider_milvusdm.model.rows import rows_within
from airflow_provider_milvusdm.rows.reader import read_slices

TOLERANCE = 1e-3


def check_unit_length(plan: CollectionPlan, metric: Metric) -> None:
    """Read all vectors; raises TargetError where one has not length 1, within a tolerance of 0.001."""
    for unit in plan.units:
        for _, tag, batch in read_slices(unit.source, unit.collection, unit.slices, rows_within(unit.collection)):
            lengths = np.linalg.norm(batch.vectors, axis=1)
            other = np.flatnonzero(np.abs(lengths - 1) > TOLERANCE)
            if other.size:
                raise TargetError(
                    f"collection {plan.name!r} can't be compared by {metric} instead of {unit.collection.metric}",
                    where=f"partition {tag!r}, id {batch.ids[other[0]]}",
                    expected="vectors of unit length, for which answers keep their order",
                    found=f"length {lengths[other[0]]:.6g}",
                    cure="Remove metric_type from target.",
                )
