"""The step that plans: the same for every source and every target."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import FolderNotSharedError
from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup, from_json
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.group import join_faults, push_groups
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.xcom import Reference, list_keys, pull_all

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanOperator(MigrationOperator):
    """Plan each collection that was asked for: what was resolved of it, and its names in the target.

    Small collections are grouped, for the next steps to map over.

    :param groups: what the inspect step returned.
    :param resolved: what the resolve tasks returned.
    :param faults: what the resolve tasks that failed left under ``fault``.
    :param rename: names in the target, of collections and partitions: ``{"news": "articles", "news/2021": "y2021"}``.
    :param id_field: name of the primary key.
    :param vector_field: name of the vector field.
    :param auto_id: ``keep``: if the source's server made the ids, the target makes ids for new rows; ``off``: it
        doesn't.
    :param alias: ``{"news": "articles"}``, or a text if there is one collection: the collection is loaded under a name
        of its own, and this alias is switched to it once it is verified.
    """

    template_fields: Sequence[str] = (
        "groups",
        "resolved",
        "faults",
        "rename",
        "id_field",
        "vector_field",
        "auto_id",
        "alias",
    )

    def __init__(
        self,
        *,
        groups: Any,
        resolved: Any,
        faults: Any = None,
        rename: Mapping[str, str] | str | None = None,
        id_field: str = "id",
        vector_field: str = "embedding",
        auto_id: str = "keep",
        alias: Mapping[str, str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.groups, self.resolved, self.faults = groups, resolved, faults
        self.rename, self.id_field, self.vector_field = rename, id_field, vector_field
        self.auto_id, self.alias = auto_id, alias

    def step(self, context: Context) -> list[Reference]:
        from airflow_provider_milvusdm.targets.plan import plan_collections

        instance, keys = context["ti"], list_keys(self.groups)
        resolved = [from_json(ResolvedGroup, group) for group in pull_all(instance, self.resolved, keys)]
        _require_skipped_files(resolved)
        plans = plan_collections(
            [from_json(PartitionGroup, group) for group in pull_all(instance, self.groups)],
            resolved,
            join_faults(pull_all(instance, self.faults, keys)),
            rename=parse_argument(self.rename) or {},
            id_field=self.id_field,
            vector_field=self.vector_field,
            auto_id=self.auto_id,
            alias=parse_argument(self.alias),
        )
        return push_groups(instance, plans)


def _require_skipped_files(resolved: Iterable[ResolvedGroup]) -> None:
    """Check that this worker sees the files of skipped rows. Raises FolderNotSharedError.

    Otherwise they are on the disks of several workers, or gone with the containers that wrote them.
    """
    for group in resolved:
        of_share = [count.path for count in group.share.skipped if count.path] if group.share else []
        for path in (*group.skipped_files, *of_share):
            if not Path(path).exists():
                raise FolderNotSharedError(
                    "this worker does not see a file of excluded rows that resolve_ids has saved",
                    where=path,
                    expected="a folder that all workers share",
                    found=f"no such file on {socket.gethostname()}",
                    cure="Name a skipped_rows_dir that all workers share, or run on one worker alone, and start a new "
                    "run.",
                )
