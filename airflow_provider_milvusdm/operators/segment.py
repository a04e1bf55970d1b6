"""The step that resolves: the same for every source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.manifest import from_json, to_json
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.vectors import PartitionGroup

if TYPE_CHECKING:
    from airflow.sdk import Context


class SegmentOperator(MigrationOperator):
    """Resolve the live ids and the load units of some partitions of a collection.

    Every segment is opened and checked, every id read and every vector looked at: what Milvus 2.x can't hold, and
    what is damaged, fails here.

    :param partitions: one of the groups that an inspect step found.
    """

    template_fields: Sequence[str] = ("partitions",)

    def __init__(self, *, partitions: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partitions = partitions

    @property
    def label(self) -> str:
        return from_json(PartitionGroup, self.partitions).label

    @property
    def collection_name(self) -> str:
        return str(self.partitions["name"])

    def step(self, context: Context) -> dict[str, Any]:
        from airflow_provider_milvusdm.sources.resolve import resolve_group

        resolved = resolve_group(from_json(PartitionGroup, self.partitions))
        for partition in resolved.partitions:
            self.log.info(
                "%s/%s: %d live rows, %d deleted",
                resolved.name,
                partition.tag,
                partition.live_rows,
                partition.deleted_rows,
            )
        manifest: dict[str, Any] = to_json(resolved)
        return manifest
