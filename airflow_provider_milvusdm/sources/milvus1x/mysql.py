"""Read a Milvus 1.x catalog from MySQL.

A 1.x server writes names in UTF-8, but never sets the charset of its connection: the default of its MySQL client
library applies. If that is latin1, as before MySQL 8, MySQL takes each byte for one character. MySQL's latin1 is cp1252
plus the five bytes that cp1252 does not define. Source: the server's code, ``MySQLConnectionPool.cpp`` in
``core/src/db/meta``; MySQL's manual, "Connection Character Sets and Collations" and "West European Character Sets".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError
from airflow_provider_milvusdm.sources.milvus1x.catalog import RESTORE, STATE_DROPPED, TEXT_COLUMNS, Catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import RowsByTable, make_catalog, read_tables

AS_BYTES = "CAST(CONVERT({} USING utf8mb4) AS BINARY)"
"""The UTF-8 bytes of a column, whatever the charsets of the column and of the connection are."""
LATIN1 = {bytes([byte]).decode("cp1252", "ignore") or chr(byte): byte for byte in range(256)}
EXAMPLES = 5


def read_mysql_catalog(connection: Any, origin: str, charset: str = "auto") -> Catalog:
    """Read the catalog through a DB-API 2.0 connection to MySQL.

    ``charset``: charset of the connection over which the server wrote it, ``latin1`` or ``utf8mb4``; ``auto`` detects
    it from the names. Raises SourceError, or ConfigurationError if it can't be detected.
    """
    rows = read_tables(connection, origin, AS_BYTES)
    texts = list(dict.fromkeys(text for text in _list_texts(rows) if not text.isascii()))
    if not texts:
        return make_catalog(rows, origin)
    decoded = {text: _from_latin1(text) for text in texts}
    if (_detect_charset(decoded, origin) if charset == "auto" else charset) != "latin1":
        return make_catalog(rows, origin)
    _require_latin1(decoded, origin)
    return make_catalog(_decode(rows, decoded), origin, (_note(decoded),))


def _list_texts(rows_by_table: RowsByTable) -> Iterator[str]:
    """All texts of collections and partitions that are not dropped."""
    for rows in rows_by_table.values():
        for row in rows:
            if row.get("state") != STATE_DROPPED:
                yield from (row[column] for column in TEXT_COLUMNS & row.keys() if isinstance(row[column], str))


def _from_latin1(text: str) -> str | None:
    """The text whose UTF-8 bytes were taken for these characters; None if there is none."""
    try:
        return bytes(LATIN1[character] for character in text).decode()
    except (KeyError, UnicodeDecodeError):
        return None


def _detect_charset(decoded: dict[str, str | None], origin: str) -> str:
    """All names went over the same connection: it is latin1 if all texts can be decoded, utf8mb4 if none can."""
    possible = [text for text, name in decoded.items() if name is not None]
    if len(possible) in (0, len(decoded)):
        return "latin1" if possible else "utf8mb4"
    impossible = [text for text, name in decoded.items() if name is None]
    raise ConfigurationError(
        "the charset in which the catalog's names were written can't be detected",
        where=origin,
        expected="all names in UTF-8, or all in UTF-8 whose bytes were taken for latin1 characters",
        found=f"{_list_examples(impossible)} in UTF-8, {_list_examples(possible)} in either",
        cure="Set mysql_charset: utf8mb4 keeps all names as they are; latin1 decodes all of them.",
    )


def _require_latin1(decoded: dict[str, str | None], origin: str) -> None:
    impossible = [text for text, name in decoded.items() if name is None]
    if impossible:
        raise DamagedSourceError(
            "names in the catalog were not written over a latin1 connection",
            where=origin,
            expected="UTF-8 whose bytes were taken for latin1 characters, as mysql_charset says",
            found=_list_examples(impossible),
            cure=f"Keep the names as they are: mysql_charset: utf8mb4. Or: {RESTORE}",
        )


def _decode(rows_by_table: RowsByTable, decoded: dict[str, str | None]) -> RowsByTable:
    return {
        table: [{column: decoded.get(value, value) for column, value in row.items()} for row in rows]
        for table, rows in rows_by_table.items()
    }


def _note(decoded: dict[str, str | None]) -> str:
    examples = ", ".join(f"{text!r} is {name!r}" for text, name in list(decoded.items())[:EXAMPLES])
    return f"names in the MySQL catalog were written over a latin1 connection, and were decoded: {examples}"


def _list_examples(texts: list[str]) -> str:
    more = f" and {len(texts) - EXAMPLES} more" if len(texts) > EXAMPLES else ""
    return ", ".join(map(repr, texts[:EXAMPLES])) + more
