"""What is read from a 1.x server's catalog, and what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_milvusdm.exceptions import (
    DamagedSourceError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric, SegmentSpec
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import (
    BACKUP,
    DROPPED,
    INDEX,
    IP,
    JACCARD,
    NEW,
    NEW_INDEX,
    NEW_MERGE,
    RAW,
    TO_DELETE,
    TO_INDEX,
)
from tests.support.reading import assert_in_order, catalog_of, errors, inspect, read_partition, without_permissions
from tests.support.tree_checksum import tree_checksum

ROW = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture
def news(directory: Milvus1xDirectory) -> Milvus1xDirectory:
    """Collections `news`, with partition `x`, and `other`, a segment in each."""
    news = directory.collection("news", dimension=4, engine=2, index_params='{"nlist":16}')
    partition = directory.partition(news, "x")
    other = directory.collection("other", dimension=4)
    for number, table in enumerate([news, partition, other]):
        directory.segment(table, [number], ROW, segment_id=str(number))
    directory.write()
    return directory


def edit(directory: Milvus1xDirectory, *statements: str) -> None:
    """Change the written catalog, freed of its constraints."""
    with closing(sqlite3.connect(directory.catalog_path)) as connection:
        for table in ("Tables", "TableFiles"):
            connection.executescript(
                f"CREATE TABLE loose AS SELECT * FROM {table}; DROP TABLE {table};ALTER TABLE loose RENAME TO {table}"
            )
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def hide_last_row(path: Path, table: str) -> None:
    """Count one cell less in the table's page: SQLite reads on and shows one row less."""
    with closing(sqlite3.connect(path)) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchall()
        [(page_size,)] = connection.execute("PRAGMA page_size").fetchall()
        [(rows,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    content = bytearray(path.read_bytes())
    header = (page - 1) * page_size
    assert content[header + 3 : header + 5] == rows.to_bytes(2, "big")
    content[header + 3 : header + 5] = (rows - 1).to_bytes(2, "big")
    path.write_bytes(content)


def replace_by_an_endless_view(path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE Environment")
        connection.execute(f"CREATE VIEW Environment AS {endless}")


@pytest.mark.parametrize("leave_in_wal", [True, False])
def test_rows_are_read_from_the_file_and_its_wal_and_the_source_stays_as_it_was(
    directory: Milvus1xDirectory, leave_in_wal: bool
) -> None:
    for name in ("a", "b", "c"):
        directory.segment(directory.collection(name, dimension=4), [1], ROW, segment_id=f"1{name}")
    directory.write(leave_in_wal=leave_in_wal)
    before = tree_checksum(directory.path)
    catalog = catalog_of(directory.path)
    assert catalog.names() == ["a", "b", "c"]
    assert catalog.partition("c", "_default").segments == (SegmentSpec("c/1c", 1),)
    assert tree_checksum(directory.path) == before


def test_a_transaction_that_the_server_never_ended_is_rolled_back_in_the_copy(news: Milvus1xDirectory) -> None:
    path = news.catalog_path
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE Tables SET dimension = 8")
        connection.execute("UPDATE TableFiles SET row_count = 9, file_id = ?", ["x" * 100_000])
        main, journal = path.read_bytes(), path.with_name("meta.sqlite-journal").read_bytes()
    path.write_bytes(main)
    path.with_name("meta.sqlite-journal").write_bytes(journal)
    before = tree_checksum(news.path)
    assert catalog_of(news.path).collection("news").dimension == 4
    assert catalog_of(news.path).partition("news", "x").live_rows == 1
    assert tree_checksum(news.path) == before


def test_a_collection_is_described(directory: Milvus1xDirectory) -> None:
    directory.collection(
        "faces", dimension=16, metric=JACCARD, engine=10, index_params='{"nlist":16,"note":"kept"}', flag=1
    )
    directory.collection("news", dimension=3, metric=IP, engine=11, index_params='{"M":16,"efConstruction":200}')
    catalog = catalog_of(directory.write())
    assert catalog.collection("faces") == CollectionSpec(
        "faces", 16, Metric.JACCARD, "BIN_IVF_FLAT", {"nlist": 16}, generated_ids=True
    )
    assert catalog.collection("news") == CollectionSpec("news", 3, Metric.IP, "HNSW", {"M": 16, "efConstruction": 200})


def test_metrics_and_indexes_are_known_by_1xs_numbers(directory: Milvus1xDirectory) -> None:
    metrics = ["L2", "IP", "HAMMING", "JACCARD", "TANIMOTO", "SUBSTRUCTURE", "SUPERSTRUCTURE"]
    indexes = ["FLAT", "IVF_FLAT", "IVF_SQ8", "RNSG", "IVF_SQ8H", "IVF_PQ"]
    indexes += ["SPTAG_KDT", "SPTAG_BKT", "BIN_FLAT", "BIN_IVF_FLAT", "HNSW", "ANNOY"]
    for number, _ in enumerate(metrics, 1):
        directory.collection(f"m{number}", dimension=8, metric=number)
    for number, _ in enumerate(indexes, 1):
        directory.collection(f"i{number}", dimension=8, engine=number)
    catalog = catalog_of(directory.write())
    found = [catalog.collection(name) for name in catalog.names()]
    assert [collection.metric for collection in found[:7]] == metrics
    assert [collection.index_type for collection in found[7:]] == indexes


@pytest.mark.parametrize(
    ("damage", "error", "parts"),
    [
        (lambda path: path.unlink(), SourceNotFoundError, ["No Milvus 1.x catalog", "meta.sqlite", "mysql_conn_id"]),
        (
            lambda path: (path.unlink(), path.mkdir()),
            SourceNotFoundError,
            ["No Milvus 1.x catalog", "meta.sqlite", "catalog_path"],
        ),
        (
            lambda path: path.write_bytes(b"garbage " * 1000),
            DamagedSourceError,
            ["meta.sqlite", "Expected an SQLite database", "found file is not a database", "backup"],
        ),
        (
            lambda path: path.write_bytes(b""),
            DamagedSourceError,
            ["meta.sqlite", "Expected", "found an empty one", "meta.sqlite-wal"],
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:5000]),
            DamagedSourceError,
            ["meta.sqlite", "Expected an SQLite database", "found", "backup"],
        ),
        (
            lambda path: hide_last_row(path, "TableFiles"),
            DamagedSourceError,
            ["meta.sqlite", "Expected an SQLite database", "found", "Fragmentation", "backup"],
        ),
        (replace_by_an_endless_view, DamagedSourceError, ["meta.sqlite", "found one with a view", "backup"]),
    ],
    ids=["missing", "a folder", "garbage", "empty", "cut", "a row hidden", "without end"],
)
def test_what_is_no_catalog_is_refused(
    news: Milvus1xDirectory, damage: Callable[[Path], Any], error: type[SourceError], parts: list[str]
) -> None:
    damage(news.catalog_path)
    with pytest.raises(error) as fault:
        catalog_of(news.path)
    assert type(fault.value) is error
    assert_in_order(str(fault.value), parts)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"nowhere/db/meta\.sqlite"):
        catalog_of(tmp_path / "nowhere")


def test_a_catalog_that_may_not_be_read_is_refused(news: Milvus1xDirectory) -> None:
    with without_permissions(news.path), pytest.raises(SourceError) as fault:
        catalog_of(news.path)
    assert_in_order(str(fault.value), ["No permission to read the source", str(news.path), "Give read permission"])


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("ALTER TABLE TableFiles DROP COLUMN segment_id", "Expected columns segment_id, found columns id, table_id"),
        ("ALTER TABLE Tables DROP COLUMN index_params", "Expected columns index_params"),
        ("DROP TABLE Tables", "found no such table"),
    ],
    ids=["0.6", "0.6, Tables", "0.11"],
)
def test_the_catalog_of_another_format_is_refused_by_name(news: Milvus1xDirectory, statement: str, found: str) -> None:
    edit(news, statement)
    with pytest.raises(UnsupportedSourceError) as fault:
        catalog_of(news.path)
    assert_in_order(str(fault.value), ["does not belong to a Milvus 1.x catalog", str(news.catalog_path), found])
    assert "0.6 and earlier and 0.11 have other formats" in str(fault.value)


def test_a_catalog_without_fields_is_read(news: Milvus1xDirectory) -> None:
    edit(news, "DROP TABLE Fields")
    assert catalog_of(news.path).names() == ["news", "other"]


@pytest.mark.parametrize("version", ["0.7.0", "0.8.1", "0.9.1", "0.10.0", "0.10.6", "1.0.0", "1.1.1", "1.1"])
def test_versions_that_are_taken(directory: Milvus1xDirectory, version: str) -> None:
    directory.collection("news", dimension=4, version=version)
    assert errors(inspect(directory.write())) == {"news": ""}


@pytest.mark.parametrize("version", ["0.6.0", "0.11.0", "2.0.0", "1.2.0", "1.10.0", "0.70", "10.7", "1.1.1\n", ""])
def test_a_collection_of_another_version_is_refused_and_others_go_on(news: Milvus1xDirectory, version: str) -> None:
    edit(news, f"UPDATE Tables SET version = '{version}' WHERE table_id = 'news'")
    found = errors(inspect(news.path))
    assert found["other"] == ""
    assert_in_order(
        found["news"], ["ollection 'news' was written by another version", "Expected 0.7 to 0.10", repr(version), "1.1"]
    )


def test_a_collection_with_attributes_is_refused_and_others_go_on(directory: Milvus1xDirectory) -> None:
    hybrid = directory.collection("hybrid", dimension=4)
    directory.collection("news", dimension=4)
    directory.field(hybrid, "age", 3)
    found = errors(inspect(directory.write()))
    assert found["news"] == ""
    assert_in_order(found["hybrid"], ["'hybrid' has attributes", "table Fields", "leave it out"])


def test_what_was_dropped_is_not_there(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    gone = directory.collection("gone", dimension=4, state=DROPPED)
    dropped = directory.partition(news, "x", state=DROPPED)
    for number, table in enumerate([gone, dropped, directory.partition(gone, "y")]):
        directory.segment(table, [number], ROW)
    catalog = catalog_of(directory.write())
    assert catalog.names() == ["news"]
    assert catalog.tags("news") == ["_default"]
    with pytest.raises(SourceNotFoundError) as fault:
        catalog.collection("gone")
    assert_in_order(str(fault.value), ["o collection 'gone'", "meta.sqlite", "Found collections news", "Correct"])
    with pytest.raises(SourceNotFoundError) as fault:
        catalog.partition("news", "x")
    assert_in_order(
        str(fault.value), ["o partition 'x' in collection 'news'", "Found partitions '_default'", "Correct"]
    )


def test_a_partition_dropped_and_made_anew_is_the_new_one(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    for number, state in enumerate([DROPPED, 0, DROPPED]):
        directory.segment(directory.partition(news, "x", state=state), [number], ROW, segment_id=str(number))
    [segment] = catalog_of(directory.write()).partition("news", "x").segments
    assert segment.name.endswith("/1")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("Tables", "metric_type", 0),
        ("Tables", "metric_type", 8),
        ("Tables", "engine_type", 0),
        ("Tables", "engine_type", 13),
        ("Tables", "state", 2),
        ("Tables", "state", -1),
        ("TableFiles", "file_type", 8),
        ("TableFiles", "file_type", -1),
    ],
)
def test_a_number_that_1x_never_writes_refuses_only_its_collection(
    news: Milvus1xDirectory, table: str, column: str, value: int
) -> None:
    edit(news, f"UPDATE {table} SET {column} = {value} WHERE table_id = 'news'")
    found = errors(inspect(news.path))
    assert found["other"] == ""
    assert_in_order(
        found["news"], [f"{column[1:]} of 'news' is not a value", "Expected one of", f"found {value}", "backup"]
    )


@pytest.mark.parametrize("tags", [None, ["x"]])
def test_a_partition_in_a_state_that_1x_never_wrote_refuses_its_collection(
    news: Milvus1xDirectory, tags: list[str] | None
) -> None:
    edit(news, "UPDATE Tables SET state = 5 WHERE partition_tag = 'x'")
    assert "found 5" in errors(inspect(news.path, {"news": tags}))["news"]


@pytest.mark.parametrize(
    ("metric", "dimension", "expected"),
    [
        (1, 0, "1 to 32768"),
        (1, -4, "1 to 32768"),
        (1, 1 << 40, "1 to 32768"),
        (3, 12, "1 to 32768, a multiple of 8"),
        (7, 4, "1 to 32768, a multiple of 8"),
    ],
)
def test_an_impossible_dimension_refuses_its_collection_alone(
    directory: Milvus1xDirectory, metric: int, dimension: int, expected: str
) -> None:
    directory.collection("news", dimension=dimension, metric=metric)
    directory.collection("smallest", dimension=1)
    directory.collection("largest", dimension=32768)
    found = errors(inspect(directory.write()))
    assert found["smallest"] == found["largest"] == ""
    assert_in_order(found["news"], ["'news' has an impossible dimension", f"Expected {expected}, found {dimension}."])


@pytest.mark.parametrize("params", ["{", "[]", "null", '"x"', "1", '{"nlist":', "nlist=16", "[" * 100_000])
def test_index_params_that_are_no_json_object_refuse_the_collection(directory: Milvus1xDirectory, params: str) -> None:
    directory.collection("news", dimension=4, index_params=params)
    [found] = errors(inspect(directory.write())).values()
    assert_in_order(found, ["ndex_params of collection 'news'", "Expected a JSON object", "found", "backup"])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("", {}),
        ("{}", {}),
        ('{"nlist":16384}', {"nlist": 16384}),
        ('{"nlist":1e400,"M":null,"m":"16","nbits":true,"x":[1],"y":1.5,"efConstruction":8}', {"efConstruction": 8}),
    ],
)
def test_whole_numbers_are_taken_of_index_params(
    directory: Milvus1xDirectory, params: str, expected: dict[str, int]
) -> None:
    directory.collection("news", dimension=4, index_params=params)
    assert catalog_of(directory.write()).collection("news").index_params == expected


@pytest.mark.parametrize(
    ("table", "column", "value", "expected"),
    [
        ("Tables", "dimension", "NULL", "an integer, found None"),
        ("Tables", "dimension", "'four'", "an integer, found 'four'"),
        ("Tables", "flag", "1.5", "an integer, found 1.5"),
        ("Tables", "state", "NULL", "an integer, found None"),
        ("Tables", "metric_type", "NULL", "an integer, found None"),
        ("Tables", "engine_type", "'x'", "an integer, found 'x'"),
        ("Tables", "flush_lsn", "NULL", "an integer, found None"),
        ("Tables", "index_params", "NULL", "text in UTF-8, found None"),
        ("Tables", "version", "NULL", "text in UTF-8, found None"),
        ("Tables", "version", "x'ff'", r"text in UTF-8, found b'\xff'"),
        ("TableFiles", "row_count", "NULL", "an integer, found None"),
        ("TableFiles", "file_type", "'RAW'", "an integer, found 'RAW'"),
        ("TableFiles", "segment_id", "NULL", "text in UTF-8, found None"),
        ("TableFiles", "segment_id", "x'c328'", r"text in UTF-8, found b'\xc3('"),
    ],
)
def test_a_value_of_the_wrong_type_refuses_its_collection_alone(
    news: Milvus1xDirectory, table: str, column: str, value: str, expected: str
) -> None:
    edit(news, f"UPDATE {table} SET {column} = {value} WHERE table_id = 'news'")
    found = errors(inspect(news.path))
    assert found["other"] == ""
    assert_in_order(
        found["news"], [f"olumn {column}", f"table {table}", "meta.sqlite", f"Expected {expected}", "backup"]
    )


@pytest.mark.parametrize("value", ["NULL", "CAST(x'ff' AS TEXT)"])
def test_a_partition_without_a_readable_tag_refuses_its_collection_alone(news: Milvus1xDirectory, value: str) -> None:
    edit(news, f"UPDATE Tables SET partition_tag = {value} WHERE partition_tag = 'x'")
    found = errors(inspect(news.path))
    assert found["other"] == ""
    assert_in_order(found["news"], ["olumn partition_tag", "Expected text in UTF-8"])


@pytest.mark.parametrize("tags", [None, ["_default"]])
def test_a_partition_without_a_log_position_refuses_its_collection_alone(
    news: Milvus1xDirectory, tags: list[str] | None
) -> None:
    edit(news, "UPDATE Tables SET flush_lsn = NULL WHERE partition_tag = 'x'")
    found = errors(inspect(news.path, {"news": tags, "other": None}))
    assert found["other"] == ""
    assert_in_order(found["news"], ["olumn flush_lsn", "Expected an integer, found None"])


@pytest.mark.parametrize(
    ("table", "column"),
    [("Tables", "table_id"), ("Tables", "owner_table"), ("TableFiles", "table_id")],
)
@pytest.mark.parametrize("value", ["NULL", "CAST(x'fffe' AS TEXT)"])
def test_a_row_that_belongs_to_nobody_refuses_the_catalog(
    news: Milvus1xDirectory, table: str, column: str, value: str
) -> None:
    edit(news, f"UPDATE {table} SET {column} = {value} WHERE table_id = 'news'")
    with pytest.raises(DamagedSourceError) as fault:
        catalog_of(news.path)
    assert_in_order(str(fault.value), [f"olumn {column}", f"table {table}", "Expected text in UTF-8", "backup"])


@pytest.mark.parametrize("tag", ["2021-03 news", "新闻", "a/b", "%_'\"", "e\N{COMBINING ACUTE ACCENT}"])
def test_a_tag_is_any_text(directory: Milvus1xDirectory, tag: str) -> None:
    partition = directory.partition(directory.collection("news", dimension=4), tag)
    directory.segment(partition, [7], ROW)
    assert read_partition(directory.write(), "news", tag) == directory.live_rows("news", tag)


@pytest.mark.parametrize("tags", [["x", "x"], ["_default"], ["", "x"]])
@pytest.mark.parametrize("named", [True, False])
def test_tags_that_are_empty_reserved_or_there_twice_refuse_the_collection(
    news: Milvus1xDirectory, tags: list[str], named: bool
) -> None:
    edit(news, "DELETE FROM Tables WHERE partition_tag = 'x'")
    for tag in tags:
        edit(
            news,
            "INSERT INTO Tables SELECT id + 10, 'p', state, dimension, created_on, flag, index_file_size, engine_type, "
            f"index_params, metric_type, 'news', '{tag}', version, flush_lsn FROM Tables WHERE table_id = 'news'",
        )
    if "" in tags:  # a partition that has lost its tag
        named = False
    found = errors(inspect(news.path, {"news": tags if named else None}))["news"]
    assert_in_order(found, ["artition tags of collection 'news'", "found", repr(tags[0]), "backup"])


def test_a_segment_counts_once_and_only_where_a_file_of_it_holds_rows(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4, engine=2)
    kinds = {
        "1": [INDEX, BACKUP],
        "2": [BACKUP, INDEX],
        "3": [RAW],
        "4": [TO_INDEX],
        "5": [NEW_MERGE],
        "6": [TO_DELETE],
        "7": [NEW],
        "8": [NEW_INDEX],
        "9": [NEW_INDEX, TO_INDEX],
        "10": [TO_DELETE, RAW],
    }
    for name, file_types in kinds.items():
        directory.segment(news, [int(name)], ROW, file_types=file_types, segment_id=name)
    partition = catalog_of(directory.write()).partition("news", "_default")
    assert [segment.name for segment in partition.segments] == [
        f"news/{name}" for name in ("1", "2", "3", "4", "9", "10")
    ]
    assert partition.live_rows == 6


def test_files_of_a_segment_that_differ_in_row_count_refuse_the_collection(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1], ROW, file_types=[INDEX, BACKUP], segment_id="5")
    directory.write()
    edit(directory, f"UPDATE TableFiles SET row_count = 3 WHERE file_type = {BACKUP}")
    [found] = errors(inspect(directory.path)).values()
    assert_in_order(
        found,
        ["he files of segment news/5 have different row_count", "table TableFiles", "Expected 1, found 3", "backup"],
    )


def test_segments_come_in_the_order_of_the_catalog(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    for name in ("9", "1", "5"):
        directory.segment(news, [int(name)], ROW, segment_id=name)
    partition = catalog_of(directory.write()).partition("news", "_default")
    assert [segment.name for segment in partition.segments] == ["news/9", "news/1", "news/5"]


def test_a_catalog_has_any_file_name(news: Milvus1xDirectory, tmp_path: Path) -> None:
    elsewhere = news.catalog_path.rename(tmp_path / "a catalog")
    assert read_sqlite_catalog(elsewhere).names() == ["news", "other"]
