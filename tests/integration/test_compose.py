"""What docker-compose.yaml sets, against the real servers that this machine has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import MySQLdb
import yaml

from airflow_provider_milvusdm.cli.sample import write_sample
from airflow_provider_milvusdm.sources.milvus1x.mysql import read_mysql_catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog
from tests.support.mariadb_server import MySqlAddress
from tests.support.milvus_servers import milvus_server_binary
from tests.support.repository import ROOT


def test_settings_of_milvus_are_options_that_a_server_has() -> None:
    """A server takes `MINIO_ACCESS_KEY_ID` for `minio.accessKeyID`: case and underscores don't count."""
    template = next(milvus_server_binary().parents[1].glob("lib/*/site-packages/milvus/data/config.yaml.template"))
    known = {
        key.replace(".", "").lower() for key in list_keys(yaml.safe_load(re.sub("{{.*?}}", "0", template.read_text())))
    }
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    names = compose["services"]["milvus"]["environment"]
    assert names
    assert [name for name in names if name.replace("_", "").lower() not in known] == []


def list_keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys of nested mappings, joined by dots."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from list_keys(value, f"{prefix}{key}.")


def test_mysql_that_ran_the_file_holds_the_catalog_of_the_sample(mariadb_server: MySqlAddress, tmp_path: Path) -> None:
    write_sample(tmp_path / "milvus")
    expected = read_sqlite_catalog(tmp_path / "milvus" / "db" / "meta.sqlite")
    with closing(MySQLdb.connect(**asdict(mariadb_server), charset="utf8mb4")) as connection:
        cursor = connection.cursor()
        cursor.execute(f"DROP DATABASE {mariadb_server.database}")
        cursor.execute(f"CREATE DATABASE {mariadb_server.database} CHARACTER SET utf8mb4")
        cursor.execute(f"USE {mariadb_server.database}")
        for statement in (ROOT / "dev" / "sample-catalog.sql").read_text().split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        connection.commit()
        assert read_mysql_catalog(connection, expected.origin) == expected
