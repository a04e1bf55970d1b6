"""The step that resolves: the same for every source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.manifests import PartitionGroup, from_json, parse_text, to_json
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.operators.base import RUN, MigrationOperator, run_folder
from airflow_provider_milvusdm.operators.xcom import Reference

if TYPE_CHECKING:
    from airflow.sdk import Context


class ResolveOperator(MigrationOperator):
    """Resolve the live ids and the load units of some partitions of a collection.

    Every segment is opened and checked, every id read and every vector looked at: what Milvus 2.x can't hold, and
    what is damaged, fails here.

    :param partitions: one of the groups that an inspect step found.
    :param duplicate_ids: ``error``, ``keep_first``, ``keep_last``, or ``remap``: each row gets a key of its own, and
        its id goes to the field ``source_id``.
    :param invalid_vectors: ``error``, or ``skip``: rows with NaN or infinity are saved to a file and left out.
    :param skipped_rows_dir: folder of these files: ``<skipped_rows_dir>/<dag>/<run>/<collection>/<partition>.h5``.
    :param run: its DAG and its id.
    :param plan_only: write no such file.
    """

    template_fields: Sequence[str] = (
        "partitions",
        "duplicate_ids",
        "invalid_vectors",
        "skipped_rows_dir",
        "run",
        "plan_only",
    )

    def __init__(
        self,
        *,
        partitions: dict[str, Any],
        duplicate_ids: str = "error",
        invalid_vectors: str = "error",
        skipped_rows_dir: str | None = None,
        run: str = RUN,
        plan_only: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.partitions = partitions
        self.duplicate_ids, self.invalid_vectors = duplicate_ids, invalid_vectors
        self.skipped_rows_dir, self.run, self.plan_only = skipped_rows_dir, run, plan_only

    @property
    def subject(self) -> str:
        return from_json(PartitionGroup, self.partitions).label

    @property
    def collection_name(self) -> str:
        return str(self.partitions["name"])

    def step(self, context: Context) -> Reference:
        from airflow_provider_milvusdm.rows.resolve import resolve_group

        is_saved = self.skipped_rows_dir and not parse_text(self.plan_only)
        folder = run_folder(str(self.skipped_rows_dir), self.run) if is_saved else ""
        policies = RowPolicies(self.duplicate_ids, self.invalid_vectors, str(folder))
        resolved = resolve_group(from_json(PartitionGroup, self.partitions), policies)
        for partition in resolved.partitions:
            self.log.info(
                "%s/%s: %d live rows, %d deleted",
                resolved.name,
                partition.tag,
                partition.live_rows,
                partition.deleted_rows,
            )
        return self.hand_in(context, to_json(resolved))
