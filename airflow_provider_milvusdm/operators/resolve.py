"""The step that resolves ids: the same for every source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.operators.base import RUN, run_folder
from airflow_provider_milvusdm.operators.done import SharedStore
from airflow_provider_milvusdm.operators.group import GroupOperator, MemberStep
from airflow_provider_milvusdm.operators.params import parse_argument

if TYPE_CHECKING:
    from airflow.sdk import Context


class ResolveOperator(GroupOperator):
    """Resolve the live ids and the load units of partitions, or a share of a large partition.

    It opens and checks every segment, and reads every id and every vector. It fails for damaged segments, and for rows
    that Milvus 2.x can't hold. The plan step joins the shares.

    :param partitions: one of the groups that an inspect step returned.
    :param duplicate_ids: ``error``, ``keep_first``, ``keep_last``, or ``remap``: each row gets a new primary key, and
        its id goes to the field ``source_id``.
    :param invalid_vectors: ``error``, or ``skip``: rows with NaN or infinity are saved to a file and not loaded.
    :param skipped_rows_dir: folder for these files: ``<skipped_rows_dir>/<dag>/<run>/<collection>/<partition>.h5``,
        or ``<partition>.<share>.h5``.
    :param run: DAG and id of the run.
    :param plan_only: write no such files.
    """

    template_fields: Sequence[str] = (
        "partitions",
        "duplicate_ids",
        "invalid_vectors",
        "skipped_rows_dir",
        "run",
        "plan_only",
    )
    member_type = PartitionGroup

    def __init__(
        self,
        *,
        partitions: Any,
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
    def group(self) -> Any:
        return self.partitions

    @contextmanager
    def prepared(self, context: Context) -> Iterator[MemberStep]:
        policies = RowPolicies(self.duplicate_ids, self.invalid_vectors, self._skipped_rows_folder())
        yield MemberStep(partial(self._resolve, policies))

    def _resolve(self, policies: RowPolicies, group: PartitionGroup, _: SharedStore) -> ResolvedGroup:
        from airflow_provider_milvusdm.rows.resolve import resolve_group

        resolved = resolve_group(group, policies)
        if resolved.share:
            rows = sum(part.row_slice.stored_rows for part in resolved.share.slices)
            self.log.info("%s: %d rows of this share", group.label, rows)
        for partition in resolved.partitions:
            self.log.info(
                "%s/%s: %d live rows, %d deleted",
                resolved.name,
                partition.tag,
                partition.live_rows,
                partition.deleted_rows,
            )
        return resolved

    def _skipped_rows_folder(self) -> str:
        """The folder of the run's files; empty if none are written. Raises ConfigurationError if rows would be lost."""
        if self.invalid_vectors == "skip" and not self.skipped_rows_dir:
            raise ConfigurationError(
                "rows with invalid vectors can't be skipped without a folder to save them in",
                expected="skipped_rows_dir",
                found="none",
                cure="Set skipped_rows_dir, or invalid_vectors: error.",
            )
        if not self.skipped_rows_dir or parse_argument(self.plan_only):
            return ""
        return str(run_folder(self.skipped_rows_dir, self.run))
