"""Which part of its source a target holds bit for bit, according to its marker: a sync need not compare it again."""

from __future__ import annotations

from airflow_provider_milvusdm.manifests import CollectionPlan
from airflow_provider_milvusdm.model.collections import SourcePosition
from airflow_provider_milvusdm.sources.registry import is_seen
from airflow_provider_milvusdm.targets.milvus.marker import Marker


def seen_by(plan: CollectionPlan) -> str:
    """What a target with all rows of the plan has seen: the source's position, or else the fingerprint of its rows."""
    return str(plan.position) if plan.position else plan.fingerprint


class Seen:
    """What a target has seen of a plan's source.

    Nothing, unless its last load is complete and was of that source. Nothing, too, where the source is an older copy,
    or has other rows at the same position.
    """

    def __init__(self, plan: CollectionPlan, marker: Marker | None) -> None:
        self.source = plan.source
        last = marker if marker and not marker.is_loading else None
        self.everything = last is not None and (last.seen, last.source) == (seen_by(plan), plan.fingerprint)
        found, now = SourcePosition.parse(last.seen) if last else None, plan.position
        self.position = found if found and now and now != found and now.follows(found) else None

    def holds(self, segment: str) -> bool:
        """Whether those rows of a segment whose ids the target holds are the same in the target."""
        if self.everything:
            return True
        if self.source is None or self.position is None:
            return False
        return is_seen(self.source, segment, self.position)
