"""Steps that inspect files which become one collection: HDF5, Faiss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config import read_params
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifest import parse_text, to_json
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.handover import Reference, hand_out
from airflow_provider_milvusdm.params import CollectionParameter
from airflow_provider_milvusdm.sources.files import AnyPath, local_path, source_path
from airflow_provider_milvusdm.vectors import DEFAULT_PARTITION, PartitionGroup

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

        parameter = read_params(CollectionParameter, parse_text(self.collection_parameter) or {})
        groups = self.inspect(
            name=self.dest_collection_name,
            partition=self.dest_partition_name or DEFAULT_PARTITION,
            dimension=parameter.dimension,
            metric=parameter.metric_type,
            id_offset=int(self.id_offset),
            unit_bytes=int(self.unit_mib) << 20,
            most_tasks=conf.getint("core", "max_map_length"),
        )
        whole, notes = not self.dest_partition_name, parameter.notes()
        groups = [replace(group, whole=whole, notes=group.notes + notes) for group in groups]
        for group in groups:
            self.log.info("%s: %s", group.label, "; ".join(group.notes) or "ready")
        return hand_out(context["ti"], map(to_json, groups))


class Hdf5InspectOperator(FilesInspectOperator):
    """Look at HDF5 files.

    :param data_dir: a folder of them, in place of ``data_path``.
    :param embeddings: dataset of the vectors, a path through groups.
    :param ids_dataset: dataset of the ids, which must be there; ``ids?``: ``ids`` where there is one; none: None.
    """

    template_fields: Sequence[str] = (
        *FilesInspectOperator.template_fields,
        "data_dir",
        "embeddings",
        "ids_dataset",
    )

    def __init__(
        self,
        *,
        data_dir: str | None = None,
        embeddings: str = "embeddings",
        ids_dataset: str | None = "ids?",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data_dir, self.embeddings, self.ids_dataset = data_dir, embeddings, ids_dataset

    def inspect(self, **target: Any) -> list[PartitionGroup]:
        from airflow_provider_milvusdm.sources.hdf5_inspect import inspect_hdf5, list_hdf5
        from airflow_provider_milvusdm.sources.hdf5_segment import Hdf5Options

        paths = list_hdf5(source_path(self.data_dir)) if self.data_dir else _paths(parse_text(self.data_path))
        options = Hdf5Options(self.embeddings, self.ids_dataset or None, self.ids)
        return inspect_hdf5(paths, options=options, **target)


class FaissInspectOperator(FilesInspectOperator):
    """Look at a Faiss index.

    :param allow_lossy: reconstruct the vectors of an index that keeps only codes of them.
    """

    template_fields: Sequence[str] = (*FilesInspectOperator.template_fields, "allow_lossy")

    def __init__(self, *, allow_lossy: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_lossy = allow_lossy

    def inspect(self, **target: Any) -> list[PartitionGroup]:
        if find_spec("faiss") is None:
            raise ConfigurationError("Faiss is not installed", cure="pip install 'airflow-provider-milvusdm[faiss]'.")
        from airflow_provider_milvusdm.sources.faiss_inspect import inspect_faiss
        from airflow_provider_milvusdm.sources.faiss_segment import FaissOptions

        options = FaissOptions(self.ids, allow_lossy=parse_text(self.allow_lossy))
        return inspect_faiss(Path(local_path(parse_text(self.data_path))), options=options, **target)


def _paths(data_path: Any) -> list[AnyPath]:
    return [source_path(path) for path in ([data_path] if isinstance(data_path, str) else data_path or [])]
