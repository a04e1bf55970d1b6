"""The builder of 1.x directories against the format's description and a real directory's catalog."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.support.milvus1x_catalog import MYSQL_SCHEMA, SQLITE_SCHEMA, read_sqlite_catalog
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import BACKUP, DROPPED, HAMMING, INDEX, TO_DELETE, TO_INDEX
from tests.support.milvus1x_segment import Damage
from tests.support.tree_checksum import tree_checksum

FLOATS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return Milvus1xDirectory(tmp_path / "milvus", global_lsn=77)


def tables_of(database: str) -> list[str]:
    with closing(sqlite3.connect(database, uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT table_id FROM Tables ORDER BY id")]


def test_segment_files_are_counted_little_endian_and_deletions_keep_their_order(directory):
    news = directory.collection("news", dimension=4)
    segment = directory.segment(news, [-(2**63), 7, 2**63 - 2], FLOATS, deleted=[2, 0])
    directory.write()
    assert segment.folder == directory.path / "db" / "tables" / "news" / segment.segment_id
    assert segment.rv.read_bytes() == struct.pack("<Q12f", 48, *range(12))
    assert segment.uid.read_bytes() == struct.pack("<Q3q", 24, -(2**63), 7, 2**63 - 2)
    assert segment.deleted_docs.read_bytes() == bytes.fromhex("0800000000000000 02000000 00000000")
    assert directory.live("news") == {7: struct.pack("<4f", 4, 5, 6, 7)}


def test_a_segment_without_deletions_has_an_empty_deleted_docs(directory):
    segment = directory.segment(directory.collection("news", dimension=4), [1, 2, 3], FLOATS)
    directory.write()
    assert segment.deleted_docs.read_bytes() == bytes(8)


def test_binary_vectors_take_an_eighth_of_their_dimension_and_keep_zero_bytes_at_the_end(directory):
    faces = directory.collection("faces", dimension=16, metric=HAMMING)
    segment = directory.segment(faces, [5, 6], np.array([[1, 0], [0, 0]], dtype=np.uint8))
    directory.write()
    assert segment.rv.read_bytes() == bytes.fromhex("0400000000000000 0100 0000")
    assert directory.live("faces") == {5: b"\x01\x00", 6: b"\x00\x00"}


def test_the_catalog_has_a_row_for_each_file_of_a_segment(directory):
    news = directory.collection("news", dimension=4, engine=2, index_params='{"nlist":16}')
    march = directory.partition(news, "2021-03 news")
    segment = directory.segment(march, [1, 2, 3], FLOATS, deleted=[1], file_types=(INDEX, BACKUP))
    directory.write()
    rows = read_sqlite_catalog(directory.catalog_path)
    assert rows["Environment"] == [(77,)]
    assert rows["Tables"][1][10:12] == ("news", "2021-03 news")
    assert [(row[1], row[2], row[5], row[7]) for row in rows["TableFiles"]] == [
        (march.table_id, segment.segment_id, INDEX, 2),
        (march.table_id, segment.segment_id, BACKUP, 2),
    ]
    assert directory.live("news") == {}
    assert set(directory.live("news", "2021-03 news")) == {1, 3}


def test_live_rows_leave_out_what_is_dropped_unfinished_or_dead(directory):
    news = directory.collection("news", dimension=4)
    gone = directory.collection("gone", dimension=4, state=DROPPED)
    dropped, again = directory.partition(news, "x", state=DROPPED), directory.partition(news, "x")
    of_gone = directory.partition(gone, "y")
    for number, table in enumerate([gone, dropped, again, of_gone]):
        directory.segment(table, [number], FLOATS[:1])
    directory.segment(news, [10], FLOATS[:1], file_types=(TO_DELETE,))
    directory.segment(news, [11], FLOATS[:1], file_types=(TO_INDEX,))
    assert set(directory.live("news")) == {11}
    assert set(directory.live("news", "x")) == {2}
    assert directory.live("gone") == directory.live("gone", "y") == {}
    with pytest.raises(KeyError, match="no collection 'news' with a partition 'z'"):
        directory.live("news", "z")


def test_live_refuses_to_hide_a_duplicate_id(directory):
    directory.segment(directory.collection("news", dimension=4), [1, 1, 2], FLOATS)
    assert len(directory.live_rows("news")) == 3
    with pytest.raises(ValueError, match="duplicate ids: 3 live rows, 2 ids"):
        directory.live("news")


def test_a_reader_that_ignores_the_wal_misses_rows(directory):
    for name in ("a", "b", "c"):
        directory.segment(directory.collection(name, dimension=4), [1, 2, 3], FLOATS)
    directory.write(leave_in_wal=True)
    before = tree_checksum(directory.path)
    assert directory.catalog_path.with_name("meta.sqlite-wal").stat().st_size > 0
    assert tables_of(f"file:{directory.catalog_path}?immutable=1") == ["a"]
    assert len(read_sqlite_catalog(directory.catalog_path)["TableFiles"]) == 3
    assert tree_checksum(directory.path) == before
    assert tables_of(f"file:{directory.catalog_path}") == ["a", "b", "c"]
    assert tree_checksum(directory.path) != before, "opening the source itself changes it"


def test_a_cleanly_closed_catalog_stands_in_one_file_of_wal_journal_mode(directory):
    directory.collection("news", dimension=4)
    directory.collection("more", dimension=4)
    directory.write()
    assert [path.name for path in directory.catalog_path.parent.glob("meta.sqlite*")] == ["meta.sqlite"]
    assert directory.catalog_path.read_bytes()[18:20] == b"\x02\x02"
    assert tables_of(f"file:{directory.catalog_path}?immutable=1") == ["news", "more"]


def test_damage_and_contradictions_are_written_as_asked(directory):
    news = directory.collection("news", dimension=4)
    damage = Damage(rv_bytes=2**60, tail=b"left over")
    segment = directory.segment(news, [1, 2, 3], FLOATS, row_count=9, damage=damage)
    evil = directory.segment(news, [4], FLOATS[:1], segment_id="../evil")
    missing = directory.segment(news, [5], FLOATS[:1], write_folder=False)
    directory.write()
    assert segment.rv.read_bytes() == struct.pack("<Q12f", 2**60, *range(12)) + b"left over"
    assert segment.uid.read_bytes()[32:] == b"left over"
    assert evil.rv.resolve() == directory.tables_folder / "evil" / "evil.rv"
    assert evil.rv.exists()
    assert not missing.folder.exists()
    assert [row[7] for row in read_sqlite_catalog(directory.catalog_path)["TableFiles"]] == [9, 1, 1]


def test_the_columns_are_those_of_a_real_catalog(real_data, directory):
    real = real_data / "milvus" / "db" / "meta.sqlite"
    directory.write()
    for table in SQLITE_SCHEMA:
        assert columns(directory.catalog_path, table) == columns(real, table)
        assert len(MYSQL_SCHEMA[table].split(",")) == len(columns(real, table))


def columns(database: Path, table: str) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as connection:
        return connection.execute(f"PRAGMA table_info('{table}')").fetchall()


def test_the_checksum_sees_names_bytes_and_empty_folders(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    seen = {tree_checksum(tmp_path)}
    (tmp_path / "a").write_bytes(b"2")
    seen.add(tree_checksum(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(tree_checksum(tmp_path))
    (tmp_path / "c").mkdir()
    seen.add(tree_checksum(tmp_path))
    assert len(seen) == 4
