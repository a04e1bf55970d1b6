"""Read a Milvus 1.x catalog that was kept in MySQL.

A 1.x server wrote names in UTF-8 over a connection whose charset it never set: that of its MySQL client library counts.
Where that is latin1, as it was before MySQL 8, MySQL took each byte for a character. Its latin1 is cp1252, the five
bytes that this leaves out included. Source: the server's ``core/src/db/meta/MySQLConnectionPool.cpp``; MySQL's manual,
"Connection Character Sets and Collations" and "West European Character Sets".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError
from airflow_provider_milvusdm.sources.milvus1x.catalog import RESTORE, STATE_DROPPED, TEXT_COLUMNS, Catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import Tables, make_catalog, read_tables

AS_BYTES = "CAST(CONVERT({} USING utf8mb4) AS BINARY)"
"""Whatever the charsets of the column and of the connection that reads it."""
LATIN1 = {bytes([byte]).decode("cp1252", "ignore") or chr(byte): byte for byte in range(256)}
EXAMPLES = 5


def read_mysql_catalog(connection: Any, origin: str, charset: str = "auto") -> Catalog:
    """Read the catalog through a DB-API 2.0 connection to MySQL.

    ``charset``: of the connection that the server wrote it over, ``latin1`` or ``utf8mb4``; ``auto`` tells it by the
    names themselves. Raises SourceError, or ConfigurationError where they don't tell.
    """
    tables = read_tables(connection, origin, AS_BYTES)
    foreign = list(dict.fromkeys(text for text in _texts(tables) if not text.isascii()))
    if not foreign:
        return make_catalog(tables, origin)
    names = {text: _from_latin1(text) for text in foreign}
    if (_told(names, origin) if charset == "auto" else charset) != "latin1":
        return make_catalog(tables, origin)
    _refuse_others(names, origin)
    return make_catalog(_renamed(tables, names), origin, (_note(names),))


def _texts(tables: Tables) -> Iterator[str]:
    """Texts of what was not dropped."""
    for rows in tables.values():
        for row in rows:
            if row.get("state") != STATE_DROPPED:
                yield from (row[column] for column in TEXT_COLUMNS & row.keys() if isinstance(row[column], str))


def _from_latin1(text: str) -> str | None:
    """The text whose bytes in UTF-8 were taken for these characters, if they can have been."""
    try:
        return bytes(LATIN1[character] for character in text).decode()
    except (KeyError, UnicodeDecodeError):
        return None


def _told(names: dict[str, str | None], origin: str) -> str:
    """All names went over one connection, so it is latin1 if all can be turned back, and not if none can."""
    turned = [text for text, name in names.items() if name is not None]
    if len(turned) in (0, len(names)):
        return "latin1" if turned else "utf8mb4"
    others = [text for text, name in names.items() if name is None]
    raise ConfigurationError(
        "the catalog does not tell over which charset its names were written",
        where=origin,
        expected="all as they are, or all as UTF-8 whose bytes were taken for characters of latin1",
        found=f"{_listed(others)} as they are, {_listed(turned)} as either",
        cure="Say it: mysql_charset: utf8mb4 takes all as they are; latin1 turns all back.",
    )


def _refuse_others(names: dict[str, str | None], origin: str) -> None:
    others = [text for text, name in names.items() if name is None]
    if others:
        raise DamagedSourceError(
            "names in the catalog are not what a server writes over a latin1 connection",
            where=origin,
            expected="UTF-8 whose bytes were taken for characters of latin1, as mysql_charset says",
            found=_listed(others),
            cure=f"Take them as they are: mysql_charset: utf8mb4. Or: {RESTORE}",
        )


def _renamed(tables: Tables, names: dict[str, str | None]) -> Tables:
    return {
        table: [{column: names.get(value, value) for column, value in row.items()} for row in rows]
        for table, rows in tables.items()
    }


def _note(names: dict[str, str | None]) -> str:
    examples = ", ".join(f"{text!r} is {name!r}" for text, name in list(names.items())[:EXAMPLES])
    return f"names in the MySQL catalog were written over a latin1 connection, and turned back: {examples}"


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - EXAMPLES} more" if len(texts) > EXAMPLES else ""
    return ", ".join(map(repr, texts[:EXAMPLES])) + more
