"""Writes the catalog of a Milvus 1.x server, into SQLite and MySQL, as the server itself makes it.

Written apart from the package's reader, after a real 0.9.1 catalog (SQLite) and the server's source (MySQL).
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeAlias

Row: TypeAlias = tuple[Any, ...]
Catalog: TypeAlias = Mapping[str, Sequence[Row]]
"""The rows of each catalog table, by the table's name, columns in the order of `SQLITE_SCHEMA`."""

SQLITE_SCHEMA = {
    "Environment": "'global_lsn' INTEGER DEFAULT (0) NOT NULL",
    "Tables": "'id' INTEGER PRIMARY KEY NOT NULL, 'table_id' TEXT UNIQUE NOT NULL, 'state' INTEGER NOT NULL,"
    " 'dimension' INTEGER NOT NULL, 'created_on' INTEGER NOT NULL, 'flag' INTEGER DEFAULT (0) NOT NULL,"
    " 'index_file_size' INTEGER NOT NULL, 'engine_type' INTEGER NOT NULL, 'index_params' TEXT NOT NULL,"
    " 'metric_type' INTEGER NOT NULL, 'owner_table' TEXT DEFAULT ('') NOT NULL,"
    " 'partition_tag' TEXT DEFAULT ('') NOT NULL, 'version' TEXT DEFAULT ('0.9.1') NOT NULL,"
    " 'flush_lsn' INTEGER NOT NULL",
    "TableFiles": "'id' INTEGER PRIMARY KEY NOT NULL, 'table_id' TEXT NOT NULL,"
    " 'segment_id' TEXT DEFAULT ('') NOT NULL, 'engine_type' INTEGER NOT NULL, 'file_id' TEXT NOT NULL,"
    " 'file_type' INTEGER NOT NULL, 'file_size' INTEGER DEFAULT (0) NOT NULL,"
    " 'row_count' INTEGER DEFAULT (0) NOT NULL, 'updated_time' INTEGER NOT NULL,"
    " 'created_on' INTEGER NOT NULL, 'date' INTEGER NOT NULL, 'flush_lsn' INTEGER NOT NULL",
    "Fields": "'collection_id' TEXT NOT NULL, 'field_name' TEXT NOT NULL, 'field_type' INTEGER NOT NULL,"
    " 'field_params' TEXT NOT NULL",
}

MYSQL_SCHEMA = {
    "Environment": "global_lsn BIGINT NOT NULL",
    "Tables": "id BIGINT PRIMARY KEY AUTO_INCREMENT, table_id VARCHAR(255) UNIQUE NOT NULL,"
    " state INT NOT NULL, dimension SMALLINT NOT NULL, created_on BIGINT NOT NULL,"
    " flag BIGINT DEFAULT 0 NOT NULL, index_file_size BIGINT DEFAULT 1024 NOT NULL,"
    " engine_type INT DEFAULT 1 NOT NULL, index_params VARCHAR(512) NOT NULL,"
    " metric_type INT DEFAULT 1 NOT NULL, owner_table VARCHAR(255) NOT NULL,"
    " partition_tag VARCHAR(255) NOT NULL, version VARCHAR(64) DEFAULT '0.9.1',"
    " flush_lsn BIGINT DEFAULT 0 NOT NULL",
    "TableFiles": "id BIGINT PRIMARY KEY AUTO_INCREMENT, table_id VARCHAR(255) NOT NULL,"
    " segment_id VARCHAR(255) NOT NULL, engine_type INT DEFAULT 1 NOT NULL, file_id VARCHAR(255) NOT NULL,"
    " file_type INT DEFAULT 0 NOT NULL, file_size BIGINT DEFAULT 0 NOT NULL,"
    " row_count BIGINT DEFAULT 0 NOT NULL, updated_time BIGINT NOT NULL, created_on BIGINT NOT NULL,"
    " date INT DEFAULT -1 NOT NULL, flush_lsn BIGINT DEFAULT 0 NOT NULL",
    "Fields": "collection_id VARCHAR(255) NOT NULL, field_name VARCHAR(255) NOT NULL,"
    " field_type INT DEFAULT 0 NOT NULL, field_params VARCHAR(255) NOT NULL",
}


class DbApiConnection(Protocol):
    """mysqlclient's, which sends statements of bytes as they are."""

    def cursor(self) -> Any: ...

    def commit(self) -> Any: ...


def write_sqlite_catalog(path: Path, catalog: Catalog, *, leave_in_wal: bool = False) -> None:
    """Write `path`, replacing what stands there.

    Journal mode is WAL, as a real server's. With `leave_in_wal` the files are left as by a server that was
    stopped hard: `path` itself holds the schema, Environment and the first row of Tables, `-wal` the rest.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / path.name
        with closing(sqlite3.connect(scratch)) as connection:
            _fill(connection, catalog)
            if leave_in_wal:
                _replace(scratch, path)
        if not leave_in_wal:
            _replace(scratch, path)


def _fill(connection: sqlite3.Connection, catalog: Catalog) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for table, columns in SQLITE_SCHEMA.items():
        connection.execute(f"CREATE TABLE '{table}' ({columns})")
    _insert(connection, "Environment", catalog["Environment"])
    _insert(connection, "Tables", catalog["Tables"][:1])
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _insert(connection, "Tables", catalog["Tables"][1:])
    _insert(connection, "TableFiles", catalog["TableFiles"])
    _insert(connection, "Fields", catalog["Fields"])
    connection.commit()


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    for row in rows:
        connection.execute(f"INSERT INTO '{table}' VALUES ({', '.join('?' * len(row))})", row)


def _replace(scratch: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
        source = scratch.with_name(scratch.name + suffix)
        if source.exists():
            shutil.copyfile(source, path.with_name(path.name + suffix))


def write_mysql_catalog(connection: DbApiConnection, catalog: Catalog) -> None:
    """Make and fill the catalog's tables in the connection's database, replacing those that are there.

    Statements are UTF-8 whatever the connection's charset, as the server sent them.
    """
    cursor = connection.cursor()
    for table, columns in MYSQL_SCHEMA.items():
        cursor.execute(f"DROP TABLE IF EXISTS {table}")
        cursor.execute(f"CREATE TABLE {table} ({columns})")
        for row in catalog[table]:
            cursor.execute(f"INSERT INTO {table} VALUES ({', '.join(map(_literal, row))})".encode())
    cursor.close()
    connection.commit()


def _literal(value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def read_sqlite_catalog(path: Path) -> Catalog:
    """All rows of the catalog at `path` and its `-wal`, read from a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        _replace(path, copy)
        with closing(sqlite3.connect(copy)) as connection:
            return {table: connection.execute(f"SELECT * FROM '{table}'").fetchall() for table in SQLITE_SCHEMA}


def copy_catalog_to_mysql(sqlite_path: Path, connection: DbApiConnection) -> None:
    """Put the catalog of a real directory into MySQL, as if its server had kept it there."""
    write_mysql_catalog(connection, read_sqlite_catalog(sqlite_path))
