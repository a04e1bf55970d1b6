"""Read the SQL tables of a Milvus 1.x catalog, and open a catalog in SQLite."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceNotFoundError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.milvus1x.catalog import (
    COLUMNS,
    COPY_WAL,
    NAMES,
    OPTIONAL,
    ORDER,
    STATE_DROPPED,
    TEXT_COLUMNS,
    Catalog,
    Row,
    check_type,
)
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath

ALL_ROWS = 2**63 - 1
"""Limit of every query: without one, MySQL applies its ``sql_select_limit`` and drops further rows silently."""
RowsByTable = dict[str, list[dict[str, Any]]]
"""Rows by SQL table; a row is its values by column."""


def read_tables(connection: Any, origin: str, text_column: str = "{}") -> RowsByTable:
    """Read the catalog's SQL tables through a DB-API 2.0 connection. Raises UnsupportedSourceError.

    ``text_column``: the SQL expression that selects the UTF-8 bytes of a text column.
    """
    return {table: _read_table(connection, table, origin, text_column) for table in COLUMNS}


def make_catalog(rows_by_table: RowsByTable, origin: str, notes: tuple[str, ...] = ()) -> Catalog:
    """The catalog in these rows. Raises DamagedSourceError."""
    for table, rows in rows_by_table.items():
        for row in rows:
            for column in NAMES & row.keys():
                check_type(row, column, table, origin)
    for row in rows_by_table["Environment"]:
        check_type(row, "global_lsn", "Environment", origin)
    kept = [row for row in rows_by_table["Tables"] if row["state"] != STATE_DROPPED]
    return Catalog(
        origin=origin,
        collections={row["table_id"]: row for row in kept if not row["owner_table"]},
        partitions=_group(kept, "owner_table"),
        files=_group(rows_by_table["TableFiles"], "table_id"),
        with_attributes=frozenset(row["collection_id"] for row in rows_by_table["Fields"]),
        global_lsn=max((row["global_lsn"] for row in rows_by_table["Environment"]), default=0),
        notes=notes,
    )


@refuse_unreadable()
def read_sqlite_catalog(path: AnyPath) -> Catalog:
    """Read ``meta.sqlite`` and its ``-wal`` from a copy, so that the source is not even locked. Raises SourceError."""
    if not path.is_file():
        raise SourceNotFoundError(
            "no Milvus 1.x catalog",
            where=path,
            cure="Set source_milvus_path to the directory that has db/ and wal/. If the catalog is in MySQL, set "
            "mysql_conn_id, or mysql_parameter in a YAML file; if it is in another place, set catalog_path. (milvusdm "
            "inspect only reads db/meta.sqlite; milvusdm validate reads the others.)",
        )
    with _copy(path) as copy, closing(sqlite3.connect(copy)) as connection:
        connection.text_factory = bytes  # SQLite's own decoding is not strict
        try:
            _check_file(connection)
            return make_catalog(read_tables(connection, str(path)), str(path))
        except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged schema breaks names and SQLite's own messages
            raise DamagedSourceError(
                "the catalog can't be read",
                where=path,
                expected="an SQLite database",
                found=str(error),
                cure=f"Restore it from a backup. {COPY_WAL}.",
            ) from None


def _check_file(connection: sqlite3.Connection) -> None:
    """Refuse a damaged file: SQLite may read it without an error and return fewer rows."""
    [(verdict,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != b"ok":
        raise sqlite3.DatabaseError(verdict.decode("utf-8", "replace"))
    kinds = {kind for (kind,) in connection.execute("SELECT type FROM sqlite_master")}
    if not kinds:
        raise sqlite3.DatabaseError("an empty one")
    if b"view" in kinds:  # no server creates one, and querying it may never end
        raise sqlite3.DatabaseError("one with a view")


@contextmanager
def _copy(path: AnyPath) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="milvus1x-catalog-") as folder:
        copy = Path(folder) / "meta.sqlite"
        _copy_file(path, copy)
        for suffix in ("-wal", "-journal"):
            log = path.with_name(path.name + suffix)
            if log.is_file():
                _copy_file(log, copy.with_name(copy.name + suffix))
        yield copy


def _copy_file(path: AnyPath, copy: Path) -> None:
    with path.open("rb") as file, copy.open("wb") as written:
        shutil.copyfileobj(file, written)


def _read_table(connection: Any, table: str, origin: str, text_column: str) -> list[dict[str, Any]]:
    with closing(connection.cursor()) as cursor:
        present = _columns(cursor, table, origin)
        if not present and table in OPTIONAL:
            return []
        missing = [column for column in COLUMNS[table] if column not in present]
        if missing:
            raise UnsupportedSourceError(
                f"table {table} does not belong to a Milvus 1.x catalog",
                where=origin,
                expected=f"columns {', '.join(missing)}",
                found=f"columns {', '.join(present)}" if present else "no such table",
                cure="Only catalogs of Milvus 0.7 to 0.10, 1.0 and 1.1 can be read; 0.6 and earlier and 0.11 have "
                f"other formats. If it is one of these: {COPY_WAL}.",
            )
        selected = [text_column.format(name) if name in TEXT_COLUMNS else name for name in COLUMNS[table]]
        cursor.execute(f"SELECT {', '.join(selected)} FROM {table}{ORDER[table]} LIMIT {ALL_ROWS}")  # noqa: S608
        return [_decoded(dict(zip(COLUMNS[table], row, strict=True))) for row in cursor.fetchall()]


def _columns(cursor: Any, table: str, origin: str) -> list[str]:
    """Names of the columns; none if the SQL table doesn't exist."""
    try:
        cursor.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608
    except Exception as error:
        if re.search(r"no such table|doesn't exist", str(error)):
            return []
        raise
    return [column[0] for column in cursor.description]


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    """The row with bytes as text, except where they are not UTF-8."""
    for column, value in row.items():
        if isinstance(value, bytes | bytearray):
            with suppress(UnicodeDecodeError):
                row[column] = bytes(value).decode()
    return row


def _group(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups
