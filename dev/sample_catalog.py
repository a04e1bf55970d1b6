"""Write the catalog of the sample as SQL for MySQL: what the server of docker-compose.yaml begins with."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from airflow_provider_milvusdm.cli.sample import write_sample

OUTPUT = Path(__file__).with_name("sample-catalog.sql")
COLUMNS = {
    "Tables": "id BIGINT PRIMARY KEY AUTO_INCREMENT, table_id VARCHAR(255) UNIQUE NOT NULL, state INT NOT NULL, "
    "dimension SMALLINT NOT NULL, created_on BIGINT NOT NULL, flag BIGINT DEFAULT 0 NOT NULL, "
    "index_file_size BIGINT DEFAULT 1024 NOT NULL, engine_type INT DEFAULT 1 NOT NULL, "
    "index_params VARCHAR(512) NOT NULL, metric_type INT DEFAULT 1 NOT NULL, owner_table VARCHAR(255) NOT NULL, "
    "partition_tag VARCHAR(255) NOT NULL, version VARCHAR(64) DEFAULT '1.1.1', flush_lsn BIGINT DEFAULT 0 NOT NULL",
    "TableFiles": "id BIGINT PRIMARY KEY AUTO_INCREMENT, table_id VARCHAR(255) NOT NULL, "
    "segment_id VARCHAR(255) NOT NULL, engine_type INT DEFAULT 1 NOT NULL, file_id VARCHAR(255) NOT NULL, "
    "file_type INT DEFAULT 0 NOT NULL, file_size BIGINT DEFAULT 0 NOT NULL, row_count BIGINT DEFAULT 0 NOT NULL, "
    "updated_time BIGINT NOT NULL, created_on BIGINT NOT NULL, date INT DEFAULT -1 NOT NULL, "
    "flush_lsn BIGINT DEFAULT 0 NOT NULL",
    "Fields": "collection_id VARCHAR(255) NOT NULL, field_name VARCHAR(255) NOT NULL, "
    "field_type INT DEFAULT 0 NOT NULL, field_params VARCHAR(255) NOT NULL",
    "Environment": "global_lsn BIGINT DEFAULT 0 NOT NULL",
}
"""Columns by table, in the order of the SQLite catalog. Source: the server's code, ``MySQLMetaImpl.cpp``."""


def to_sql() -> str:
    """The catalog that ``milvusdm sample`` writes, as statements that create and fill its tables."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder, "milvus"))
        with closing(sqlite3.connect(Path(folder, "milvus", "db", "meta.sqlite"))) as catalog:
            rows = {table: catalog.execute(f"SELECT * FROM {table}").fetchall() for table in COLUMNS}  # noqa: S608
    lines = ["-- The catalog of `milvusdm sample` as a 1.x server keeps it in MySQL, written by dev/sample_catalog.py"]
    for table, columns in COLUMNS.items():
        lines.append(f"CREATE TABLE {table} ({columns});")
        lines += [f"INSERT INTO {table} VALUES ({', '.join(map(_literal, row))});" for row in rows[table]]  # noqa: S608
    return "\n".join(lines) + "\n"


def _literal(value: int | str) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


if __name__ == "__main__":
    OUTPUT.write_text(to_sql())
