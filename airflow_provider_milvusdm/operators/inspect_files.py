"""Steps that inspect files which become one collection: HDF5, Faiss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.params import CollectionParameter
from airflow_provider_milvusdm.config.validation import read_params
from airflow_provider_milvusdm.manifests import PartitionGroup, to_json
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.xcom import Reference, push_all

if TYPE_CHECKING:
    from airflow.sdk import Context


class FilesInspectOperator(MigrationOperator):
    """Look at files and check that they are what they are said to be; the result is mapped over to resolve.

    :param data_path: the file, or a list of files.
    :param dest_collection_name: the collection they become.
    :param dest_partition_name: the partition of it; empty: the whole collection, and its ``_default``.
    :param collection_parameter: MilvusDM's: ``dimension`` (checked against the data), ``metric_type``,
        ``index_file_size`` (means nothing to Milvus 2.x).
    :param id_offset: where rows without ids are numbered from.
    :param ids: what rows without get: ``row_number``, or ``auto`` (the target makes them).
    :param unit_mib: size of a load unit.
    """

    template_fields: Sequence[str] = (
        "data_path",
        "dest_collection_name",
        "dest_partition_name",
        "collection_parameter",
        "id_offset",
        "ids",
        "unit_mib",
    )

    def __init__(
        self,
        *,
        data_path: Any = None,
        dest_collection_name: str,
        dest_partition_name: str | None = None,
        collection_parameter: Mapping[str, Any] | str | None = None,
        id_offset: int | str = 0,
        ids: Any = "row_number",
        unit_mib: int | str = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data_path = data_path
        self.dest_collection_name = dest_collection_name
        self.dest_partition_name = dest_partition_name
        self.collection_parameter = collection_parameter
        self.id_offset, self.ids = id_offset, ids
        self.unit_mib = unit_mib

    @abstractmethod
    def inspect(self, **target: Any) -> list[PartitionGroup]:
        """Inspect the files."""

    def step(self, context: Context) -> list[Reference]:
        from airflow.sdk.configuration import conf

        parameter = read_params(CollectionParameter, parse_argument(self.collection_parameter) or {})
        groups = self.inspect(
            name=self.dest_collection_name,
            partition=self.dest_partition_name or DEFAULT_PARTITION,
            dimension=parameter.dimension,
            metric=parameter.metric_type,
            id_offset=int(self.id_offset),
            unit_bytes=int(self.unit_mib) << 20,
            max_tasks=conf.getint("core", "max_map_length"),
        )
        whole, notes = not self.dest_partition_name, parameter.notes()
        groups = [replace(group, whole=whole, notes=group.notes + notes) for group in groups]
        for group in groups:
            self.log.info("%s: %s", group.label, "; ".join(group.notes) or "ready")
        return push_all(context["ti"], map(to_json, groups))
