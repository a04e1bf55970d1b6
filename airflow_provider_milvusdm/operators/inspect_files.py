"""The step that inspects files which become one collection: the base of those for HDF5 and Faiss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.params import CollectionParameter
from airflow_provider_milvusdm.config.validation import read_params
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.group import push_groups
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.shares import divide_large
from airflow_provider_milvusdm.operators.xcom import Reference
from airflow_provider_milvusdm.report import wrap_text

if TYPE_CHECKING:
    from airflow.sdk import Context


class FilesInspectOperator(MigrationOperator):
    """Inspect files and check them against the arguments, for the resolve step to map over.

    :param data_path: the file, or a list of files.
    :param dest_collection_name: the collection that they become.
    :param dest_partition_name: the partition that they become; empty: they become the whole collection, in its
        partition ``_default``.
    :param collection_parameter: MilvusDM's: ``dimension`` (checked against the data), ``metric_type``,
        ``index_file_size`` (has no meaning in Milvus 2.x).
    :param id_offset: the number of the first row, for rows without ids.
    :param ids: ids of rows without ids: ``row_number``, or ``auto`` if the target makes them.
    :param unit_mib: size of a load unit in MiB.
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
        self.dest_collection_name, self.dest_partition_name = dest_collection_name, dest_partition_name
        self.collection_parameter = collection_parameter
        self.id_offset, self.ids, self.unit_mib = id_offset, ids, unit_mib

    @abstractmethod
    def inspect(self, **target: Any) -> list[PartitionGroup]:
        """Inspect the files.

        ``target``: the keyword arguments that ``inspect_hdf5`` and ``inspect_faiss`` have in common.
        """

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
            self.log.info("%s", wrap_text(f"{group.label}: {'; '.join(group.notes) or 'ready'}"))
        return push_groups(context["ti"], divide_large(groups))
