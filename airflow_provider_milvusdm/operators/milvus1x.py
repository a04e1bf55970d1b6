"""Steps that read Milvus 1.x: inspect the catalog, resolve the segments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.validation import parse_selection
from airflow_provider_milvusdm.exceptions import SourceError, SourceNotFoundError
from airflow_provider_milvusdm.hooks.mysql_catalog import connect, tell_refusals
from airflow_provider_milvusdm.manifests import PartitionGroup, from_json, to_json
from airflow_provider_milvusdm.operators.base import FAULT, MigrationOperator
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.resolve import ResolveOperator
from airflow_provider_milvusdm.operators.xcom import Reference, pull_all, push_all, push_result
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog


class Milvus1xInspectOperator(MigrationOperator):
    """Read the catalog of a Milvus 1.x server; the result is mapped over by :class:`Milvus1xSegmentOperator`.

    :param source_milvus_path: the directory that holds ``db/`` and ``wal/``: a path, or ``s3://conn_id@bucket/path``.
    :param source_collection: ``{"name": ["tag", …] or None}``, ``{"*": None}`` for all, a name or a list of names.
    :param mysql_conn_id: connection to MySQL, where the catalog was kept there.
    :param mysql_charset: over which the 1.x server wrote it: ``latin1``, ``utf8mb4``, or ``auto``: told by the names.
    :param catalog_path: the SQLite file, where it isn't ``db/meta.sqlite``.
    :param tables_path: the folder of segments, where it isn't ``db/tables``.
    :param wal_path: the folder of the log, where it isn't ``wal``.
    :param unit_mib: size of a load unit.
    :param unflushed_log: of what the log holds and no segment has: ``replay`` applies it as the server does at its
        start, ``ignore`` leaves it behind, ``error`` refuses the collection.
    :param unlisted_segments: where segment folders of a collection are not in the catalog: ``error`` refuses it,
        ``ignore`` leaves them behind.
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
        self.source_milvus_path = source_milvus_path
        self.source_collection = source_collection
        self.mysql_conn_id, self.mysql_charset = mysql_conn_id, mysql_charset
        self.catalog_path = catalog_path
        self.tables_path = tables_path
        self.wal_path = wal_path
        self.unit_mib = unit_mib
        self.unflushed_log = unflushed_log
        self.unlisted_segments = unlisted_segments
        self.partitions = partitions

    def step(self, context: Context) -> list[Reference]:
        groups = self.inspect()
        for group in groups:
            found = group.error or f"{len(group.partitions)} partitions, {_rows(group)} live rows by the catalog"
            self.log.info("%s: %s", group.label, found)
        return push_all(context["ti"], map(to_json, groups))

    def inspect(self) -> list[PartitionGroup]:
        """The groups of partitions to resolve."""
        from airflow.sdk.configuration import conf

        from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
        from airflow_provider_milvusdm.sources.milvus1x.unlisted import list_folders

        path = source_path(self.source_milvus_path)
        tables = _named_or(self.tables_path, path / "db" / "tables")
        folders = list_folders(tables)
        return inspect_catalog(
            self._catalog(path),
            tables,
            self._wal(path),
            parse_selection(parse_argument(self.source_collection)),
            unit_bytes=int(self.unit_mib) << 20,
            max_tasks=conf.getint("core", "max_map_length"),
            unflushed_log=self.unflushed_log,
            unlisted_segments=self.unlisted_segments,
            partitions=self.partitions,
            folders=folders,
        )

    def _wal(self, path: AnyPath) -> AnyPath:
        """The folder of the log: one that is named must be there, for a name may be mistyped."""
        wal = _named_or(self.wal_path, path / "wal")
        with refuse_unreadable():
            if self.wal_path and not wal.is_dir():
                raise SourceNotFoundError(
                    "no log folder",
                    where=wal,
                    cure="Correct wal_path. Where the log is lost, leave wal_path empty: the report says so.",
                )
        return wal

    def _catalog(self, path: AnyPath) -> Catalog:
        from airflow_provider_milvusdm.sources.milvus1x.mysql import read_mysql_catalog
        from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog

        if not self.mysql_conn_id:
            return read_sqlite_catalog(_named_or(self.catalog_path, path / "db" / "meta.sqlite"))
        with tell_refusals(self.mysql_conn_id), closing(connect(self.mysql_conn_id)) as connection:
            return read_mysql_catalog(connection, f"MySQL connection {self.mysql_conn_id}", self.mysql_charset)


class Milvus1xCheckOperator(Milvus1xInspectOperator):
    """Inspect the source again, after it was read: a server that still runs may have written to it.

    The result are the collections that changed, each with its ``fault``. Other arguments are those of
    :class:`Milvus1xInspectOperator`.

    :param inspected: what the inspect step returned.
    """

    template_fields: Sequence[str] = (*Milvus1xInspectOperator.template_fields, "inspected")

    def __init__(self, *, inspected: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inspected = inspected

    def step(self, context: Context) -> list[Reference]:
        from airflow_provider_milvusdm.sources.milvus1x.changes import find_changes

        before = [from_json(PartitionGroup, group) for group in pull_all(context["ti"], self.inspected)]
        if not before:
            return []
        try:
            changes = find_changes(before, self.inspect())
        except SourceError as fault:
            changes = {group.name: str(fault) for group in before}
        for change in changes.values():
            self.log.warning("%s", change)
        found = [{"collection": name, FAULT: change} for name, change in changes.items()]
        return [push_result(context["ti"], change, change["collection"], self.input_id) for change in found]


class Milvus1xSegmentOperator(ResolveOperator):
    """Resolve the live ids and the load units of some partitions of a Milvus 1.x collection."""


def _named_or(text: str | None, default: AnyPath) -> AnyPath:
    return source_path(text) if text else default


def _rows(group: PartitionGroup) -> int:
    return sum(partition.live_rows for partition in group.partitions)
