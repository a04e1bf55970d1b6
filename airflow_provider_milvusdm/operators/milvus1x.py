"""Steps for Milvus 1.x: inspect the catalog, inspect it again, resolve the segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.validation import parse_selection
from airflow_provider_milvusdm.exceptions import SourceError, SourceNotFoundError
from airflow_provider_milvusdm.hooks.mysql_catalog import mysql_connection
from airflow_provider_milvusdm.manifests import Fault, PartitionGroup, from_json, to_json
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.group import push_groups
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.resolve import ResolveOperator
from airflow_provider_milvusdm.operators.shares import divide_large
from airflow_provider_milvusdm.operators.xcom import Reference, pull_all, push_group
from airflow_provider_milvusdm.progress import count_of
from airflow_provider_milvusdm.report import wrap_text
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog


class Milvus1xInspectOperator(MigrationOperator):
    """Read the catalog of a Milvus 1.x server, for :class:`Milvus1xSegmentOperator` to map over.

    :param source_milvus_path: the directory that holds ``db/`` and ``wal/``: a path, or ``s3://conn_id@bucket/path``.
    :param source_collection: ``{"name": ["tag", …] or None}``, ``{"*": None}`` for all, a name or a list of names.
    :param mysql_conn_id: connection to MySQL, if the 1.x server kept its catalog there.
    :param mysql_charset: charset of the connection over which the 1.x server wrote the catalog to MySQL: ``latin1``,
        ``utf8mb4``, or ``auto`` to find it out from the names.
    :param catalog_path: the SQLite file, if it is not ``db/meta.sqlite``.
    :param tables_path: the folder of segments, if it is not ``db/tables``.
    :param wal_path: the folder of the log, if it is not ``wal``.
    :param unit_mib: size of a load unit in MiB.
    :param unflushed_log: what to do with operations that are only in the log: ``replay`` applies them as the server
        does when it starts, ``ignore`` leaves them out, ``error`` refuses the collection.
    :param unlisted_segments: what to do if a collection has segment folders that are not in the catalog: ``error``
        refuses the collection, ``ignore`` leaves them out.
    :param partitions: ``keep``, or ``partition_key``: the tags become a field of one collection without partitions.
    """

    template_fields: Sequence[str] = (
        "source_milvus_path",
        "source_collection",
        "mysql_conn_id",
        "mysql_charset",
        "catalog_path",
        "tables_path",
        "wal_path",
        "unit_mib",
        "unflushed_log",
        "unlisted_segments",
        "partitions",
    )

    def __init__(
        self,
        *,
        source_milvus_path: str,
        source_collection: Any = "*",
        mysql_conn_id: str | None = None,
        mysql_charset: str = "auto",
        catalog_path: str | None = None,
        tables_path: str | None = None,
        wal_path: str | None = None,
        unit_mib: int | str = 256,
        unflushed_log: str = "replay",
        unlisted_segments: str = "error",
        partitions: str = "keep",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_milvus_path, self.source_collection = source_milvus_path, source_collection
        self.mysql_conn_id, self.mysql_charset = mysql_conn_id, mysql_charset
        self.catalog_path, self.tables_path, self.wal_path = catalog_path, tables_path, wal_path
        self.unit_mib, self.partitions = unit_mib, partitions
        self.unflushed_log, self.unlisted_segments = unflushed_log, unlisted_segments

    def step(self, context: Context) -> list[Reference]:
        groups = self.inspect()
        for group in groups:
            if group.error:
                self.log.error("%s", wrap_text(f"{group.label}: {group.error}"))
            else:
                partitions, rows = count_of(len(group.partitions), "partition"), count_of(_rows(group), "live row")
                self.log.info("%s: %s, %s by the catalog", group.label, partitions, rows)
        return push_groups(context["ti"], divide_large(groups))

    def inspect(self) -> list[PartitionGroup]:
        """The groups of partitions to resolve."""
        from airflow.sdk.configuration import conf

        from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
        from airflow_provider_milvusdm.sources.milvus1x.unlisted import list_folders

        directory = source_path(self.source_milvus_path)
        tables = _path_or(self.tables_path, directory / "db" / "tables")
        folders = list_folders(tables)  # before the catalog is read: a running server may create others after that
        return inspect_catalog(
            self._read_catalog(directory),
            tables,
            self._wal(directory),
            parse_selection(parse_argument(self.source_collection)),
            unit_bytes=int(self.unit_mib) << 20,
            max_tasks=conf.getint("core", "max_map_length"),
            unflushed_log=self.unflushed_log,
            unlisted_segments=self.unlisted_segments,
            partitions=self.partitions,
            folders=folders,
        )

    def _read_catalog(self, directory: AnyPath) -> Catalog:
        from airflow_provider_milvusdm.sources.milvus1x.mysql import read_mysql_catalog
        from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog

        if not self.mysql_conn_id:
            return read_sqlite_catalog(_path_or(self.catalog_path, directory / "db" / "meta.sqlite"))
        with mysql_connection(self.mysql_conn_id) as connection:
            return read_mysql_catalog(connection, f"MySQL connection {self.mysql_conn_id}", self.mysql_charset)

    def _wal(self, directory: AnyPath) -> AnyPath:
        """The folder of the log; if it was given by ``wal_path`` it must exist, because the path may be mistyped."""
        wal = _path_or(self.wal_path, directory / "wal")
        with refuse_unreadable():
            if self.wal_path and not wal.is_dir():
                raise SourceNotFoundError(
                    "no log folder",
                    where=wal,
                    cure="Correct wal_path. If the log is lost, leave wal_path empty: the report will mention it.",
                )
        return wal


class Milvus1xCheckOperator(Milvus1xInspectOperator):
    """Inspect the source again after its rows were read, because a running server may have written to it.

    The result is a :class:`Fault` for each collection that changed. The other arguments are those of
    :class:`Milvus1xInspectOperator`.

    :param inspected: what the inspect step returned.
    """

    template_fields: Sequence[str] = (*Milvus1xInspectOperator.template_fields, "inspected")

    def __init__(self, *, inspected: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inspected = inspected

    def step(self, context: Context) -> list[Reference]:
        inspected = [from_json(PartitionGroup, group) for group in pull_all(context["ti"], self.inspected)]
        faults = self._find_changes(inspected) if inspected else []
        for fault in faults:
            self.log.warning("%s", wrap_text(fault.fault))
        return [push_group(context["ti"], map(to_json, faults))] if faults else []

    def _find_changes(self, inspected: Sequence[PartitionGroup]) -> list[Fault]:
        from airflow_provider_milvusdm.sources.milvus1x.changes import find_changes

        try:
            changes = find_changes(inspected, self.inspect())
        except SourceError as error:
            changes = {group.name: str(error) for group in inspected}
        return [Fault(collection, change) for collection, change in changes.items()]


class Milvus1xSegmentOperator(ResolveOperator):
    """Resolve the live ids and the load units of partitions of a Milvus 1.x collection."""


def _path_or(text: str | None, default: AnyPath) -> AnyPath:
    return source_path(text) if text else default


def _rows(group: PartitionGroup) -> int:
    return sum(partition.live_rows for partition in group.partitions)
