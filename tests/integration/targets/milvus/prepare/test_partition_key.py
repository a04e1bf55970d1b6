"""Partition tags as a partition key: with any characters, and more of them than a server allows partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.exceptions import LateError, TargetError
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.report import FAILED, SKIPPED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.fence import REQUEST_SECONDS, Fence
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot
from airflow_provider_milvusdm.targets.milvus.server.queries import vector_bytes
from airflow_provider_milvusdm.targets.milvus.units import address_units
from tests.support.chain import Chain
from tests.support.collections_2x import called, make_collection
from tests.support.directories import DIMENSION, random_rows, random_vectors, write_directory
from tests.support.killed import Checkpoints
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus_servers import milvus_server
from tests.support.targets import milvus_client

TAGS = [
    "_default",
    "2021-03 news",
    'say "hi"',
    "it's",
    "C:\\temp\\",
    '\\"',
    "\\n \\u4e2d \\x41",
    "line\nbreak\r\ttab",
    '" or id >= 0 or partition_tag == "',
    "100% {x} $1 _",
    "二〇二一年三月",
    "𝒳😀",
    "\x01\x7f\u2028",
    "é",
    "e\u0301",
    "中" * 255,
    "😀" * 255,
]
MOST, MANY = 68, 80
"""Partitions that a limited server takes, and more than that; both are more than the 64 of a partition key."""


def keyed(client: MilvusClient, path: Path, **options: Any) -> Chain:
    return Chain(path, client, partitions="partition_key", **options)


def stored(client: MilvusClient) -> dict[str, dict[int, bytes]]:
    """Vectors by tag and id of the loaded collection `news`."""
    fields = ["id", "partition_tag", "embedding"]
    rows = client.query("news", filter="id >= 0", output_fields=fields, consistency_level="Strong")
    found: dict[str, dict[int, bytes]] = {}
    for row in rows:
        found.setdefault(row["partition_tag"], {})[row["id"]] = vector_bytes(row["embedding"])
    assert sum(map(len, found.values())) == len(rows), "an id is served twice"
    return found


def expected(directory: Milvus1xDirectory, *tags: str) -> dict[str, dict[int, bytes]]:
    return {tag: directory.live("news", tag) for tag in tags}


def counted(report: CollectionReport) -> dict[str, tuple[int, int, int | None]]:
    """Rows before, loaded and counted by tag."""
    return {part.target: (part.before, part.loaded, part.counted) for part in report.partitions}


def test_tags_of_any_characters_arrive_as_they_are(client: MilvusClient, tmp_path: Path) -> None:
    ids = {tag: range(10 * number, 10 * number + 3) for number, tag in enumerate(TAGS)}
    directory = write_directory(tmp_path / "milvus", {"news": ids})
    report = keyed(client, directory.path).run()["news"]
    assert (report.status, report.faults, report.sampled > len(TAGS)) == (VERIFIED, (), True)
    assert counted(report) == dict.fromkeys(TAGS, (0, 3, 3))
    assert stored(client) == expected(directory, *TAGS)
    [field] = [field for field in client.describe_collection("news")["fields"] if field.get("is_partition_key")]
    assert (field["name"], field["params"]["max_length"]) == ("partition_tag", 1020)


@pytest.mark.parametrize("same", [False, True], ids=["different", "equal"])
@pytest.mark.parametrize(
    ("target_uri", "policy"),
    [("lite", "error"), ("lite", "keep_first"), ("lite", "keep_last"), ("lite", "remap"), ("server", "remap")],
    indirect=["target_uri"],
)
def test_one_id_in_two_tags_is_a_duplicate(client: MilvusClient, tmp_path: Path, policy: str, same: bool) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=DIMENSION)
    vectors = random_vectors(3, 1)
    directory.segment(directory.partition(news, "a"), [1, 2], vectors[:2])
    directory.segment(directory.partition(news, "b"), [2, 3], vectors[1:] if same else random_vectors(2, 2))
    report = keyed(client, directory.write(), policies=RowPolicies(policy)).run()["news"]
    a, b = directory.live("news", "a"), directory.live("news", "b")
    if policy == "error":
        assert "1 ids are on rows with different tags or vectors in the partitions of" in report.faults[0]
        assert client.list_collections() == []
        return
    assert (report.status, report.faults) == (VERIFIED, ())
    if policy == "remap":
        assert {tag: sorted(rows.values()) for tag, rows in stored(client).items()} == {
            tag: sorted(rows.values()) for tag, rows in {"a": a, "b": b}.items()
        }
    else:
        last = policy == "keep_last"
        assert stored(client) == {"a": {1: a[1]} if last else a, "b": b if last else {3: b[3]}}
        assert "1 rows excluded: another row with their id was kept" in "\n".join(report.notes)


@pytest.fixture
def there(client: MilvusClient, tmp_path: Path) -> Milvus1xDirectory:
    """What was loaded into `news` before, under the tags `a` and `b"`."""
    directory = write_directory(tmp_path / "before", {"news": {"a": range(5), 'b"': range(10, 15)}})
    assert keyed(client, directory.path).run()["news"].status == VERIFIED
    return directory


def source(path: Path, **ids: Any) -> Milvus1xDirectory:
    tags = {"a": range(20, 23), 'b"': range(10, 13), "c": range(30, 33)}
    return write_directory(path / "milvus", {"news": tags | ids}, seed=9)


@pytest.mark.parametrize(
    ("mode", "tags", "loaded"),
    [
        ("append", ["a", "c"], ["a", "c"]),
        ("overwrite", ['b"', "c"], ['b"', "c"]),
        ("skip", ["a", "c"], ["c"]),
    ],
)
def test_named_tags_in_each_mode(
    client: MilvusClient, there: Milvus1xDirectory, tmp_path: Path, mode: str, tags: list[str], loaded: list[str]
) -> None:
    directory = source(tmp_path)
    report = keyed(client, directory.path).run({"news": tags}, mode)["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    left = {"a", 'b"'} - (set(loaded) if mode == "overwrite" else set())
    wanted = expected(there, *sorted(left))
    for tag in loaded:
        wanted[tag] = wanted.get(tag, {}) | directory.live("news", tag)
    assert stored(client) == wanted


def test_tags_are_not_overwritten_where_their_ids_are_under_other_tags(
    server_client: MilvusClient, tmp_path: Path
) -> None:
    """A server deletes the rows of a tag by their ids, under all tags."""
    there = write_directory(tmp_path / "there", {"news": {"a": range(5)}})
    assert keyed(server_client, there.path).run()["news"].status == VERIFIED
    server_client.insert("news", [{"id": 3, "embedding": [0.5] * DIMENSION, "partition_tag": "of others"}])
    report = keyed(server_client, source(tmp_path).path).run({"news": ["a"]}, "overwrite")["news"]
    assert report.status == FAILED
    assert "found ids 3" in report.faults[0]
    for tag, ids in {"a": range(5), "of others": [3]}.items():
        rows = server_client.query("news", filter=f'partition_tag == "{tag}"', consistency_level="Strong")
        assert sorted(row["id"] for row in rows) == list(ids)


def test_tags_that_are_there_are_skipped(client: MilvusClient, there: Milvus1xDirectory, tmp_path: Path) -> None:
    before = client.describe_collection("news")["properties"]
    report = keyed(client, source(tmp_path).path).run({"news": ["a", 'b"']})["news"]
    assert (report.status, counted(report)) == (SKIPPED, {"a": (0, 0, 5), 'b"': (0, 0, 5)})
    assert 'counts of a, b" differ' in "\n".join(report.notes)
    assert (stored(client), client.describe_collection("news")["properties"]) == (expected(there, "a", 'b"'), before)


@pytest.mark.usefixtures("there")
def test_tags_of_a_collection_that_is_not_loaded_are_skipped(client: MilvusClient, tmp_path: Path) -> None:
    """A Milvus Lite file never has one loaded when it is opened again; a key is counted by a query."""
    client.release_collection("news")
    report = keyed(client, source(tmp_path).path).run()["news"]
    assert (report.status, {part.counted for part in report.partitions}) == (SKIPPED, {None})
    assert "exists: skipped, and not loaded, so it could not be counted" in report.notes


def test_an_id_under_another_tag_is_refused(client: MilvusClient, there: Milvus1xDirectory, tmp_path: Path) -> None:
    chain = keyed(client, source(tmp_path, c=[3, 50]).path)
    for mode in ("skip", "append", "overwrite"):
        report = chain.run({"news": ["c"]}, mode)["news"]
        assert report.status == FAILED
        assert "ds to append are in the target already: 1 of 2 checked" in report.faults[0]
    assert stored(client) == expected(there, "a", 'b"')


def test_a_load_that_ended_halfway_is_continued(client: MilvusClient, tmp_path: Path) -> None:
    directory = source(tmp_path)
    chain = keyed(client, directory.path, unit_bytes=3 * 8 * 4)
    plans = chain.plan()
    created, _ = chain.create(plans)
    chain.load(plans, created)
    client.delete(called(client, "news"), ids=[30, 31])
    report = keyed(client, directory.path).run()["news"]
    assert (report.status, report.action, report.faults) == (VERIFIED, "resumed", ())
    assert stored(client) == expected(directory, "a", 'b"', "c")


def test_an_upsert_that_slept_deletes_nothing_that_another_run_loaded(
    client: MilvusClient, there: Milvus1xDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server has these rows deleted and inserted: the deletion, too, is taken for so long only."""
    directory = source(tmp_path)
    chain, selection = keyed(client, directory.path), {"news": ["a", "c"]}
    plans = chain.plan(selection)
    created, _ = chain.create(plans, "append")
    [unit] = address_units(plans, created)

    asleep = iter([True])

    def sleep(fence: Fence) -> float:
        fence.look()
        if next(asleep, False):
            assert chain.run(selection, "append")["news"].action == "resumed"
            return seconds_since_boot() - 1
        return seconds_since_boot() + REQUEST_SECONDS

    monkeypatch.setattr(Fence, "check", sleep)
    with pytest.raises((LateError, TargetError)):
        load_unit(client, replace(unit, upsert=True), Checkpoints())
    added = {tag: there.live("news", tag) if tag == "a" else {} for tag in ("a", "c")}
    assert stored(client) == expected(there, 'b"') | {
        tag: old | directory.live("news", tag) for tag, old in added.items()
    }


def test_a_sync_follows_rows_from_one_tag_to_another(client: MilvusClient, tmp_path: Path) -> None:
    first = write_directory(tmp_path / "first", {"news": {"_default": range(10), 'say "hi"': range(10, 20)}})
    assert keyed(client, first.path).run()["news"].status == VERIFIED
    tags = {"_default": [*range(5), 15], 'say "hi"': [5, *range(16, 25)], "new": [7]}
    later = write_directory(tmp_path / "later", {"news": tags}, seed=3)
    chain = keyed(client, later.path)
    for written in (len(range(5)) + 1 + 10 + 1, 0):
        report = chain.run(mode="sync", verify="full")["news"]
        assert (report.status, report.faults, report.sampled) == (VERIFIED, (), 17)
        assert sum(part.loaded for part in report.partitions) == written
        assert stored(client) == expected(later, *tags)


def test_a_sync_says_how_many_rows_it_left_under_keys_that_the_source_has_no_more(
    client: MilvusClient, there: Milvus1xDirectory, tmp_path: Path
) -> None:
    later = write_directory(tmp_path / "later", {"news": {'b"': range(10, 15)}}, seed=2)
    chain, note = (
        keyed(client, later.path),
        "5 rows under partition keys that the source does not have were left as they are",
    )
    report = chain.run(mode="sync")["news"]
    assert (report.status, report.notes[-1]) == (VERIFIED, note)
    assert stored(client)["a"] == there.live("news", "a")
    assert note not in chain.run({"news": ['b"']}, "sync")["news"].notes


def test_tags_do_not_go_into_a_collection_without_the_key(client: MilvusClient, tmp_path: Path) -> None:
    make_collection(client, "news", {"_default": random_rows([1], 1)}, loaded=True)
    report = keyed(client, source(tmp_path).path).run(mode="append")["news"]
    assert "partition_tag is not a VARCHAR partition key" in report.faults[0]
    assert client.list_partitions("news") == ["_default"]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusClient]:
    """A client of a server that allows few partitions a collection."""
    folder = tmp_path_factory.mktemp("limited")
    options = ("--extra-config", f"rootCoord.maxPartitionNum={MOST}")
    with milvus_server(folder, *options) as address, milvus_client(address.uri) as client:
        yield client


def test_more_partitions_than_the_server_takes(limited: MilvusClient, tmp_path: Path) -> None:
    """2.3.5 allows 4,096 by default, and does not report that this server allows fewer."""
    tags = [f'{number} "{chr(0x4E00 + number)}\\' for number in range(MANY - 1)]
    ids = {tag: [2 * number, 2 * number + 1] for number, tag in enumerate(["_default", *tags])}
    directory = write_directory(tmp_path / "milvus", {"news": ids})
    named = {tag: f"t{number}" for number, tag in enumerate(tags)}
    rename = {f"news/{tag}": name for tag, name in named.items()}

    told = Chain(directory.path, limited, settings=TargetSettings(max_partitions=MOST))
    report = told.run(rename=rename)["news"]
    assert f"at most {MOST}, the value of target: max_partitions" in report.faults[0]
    assert f"found {MANY}" in report.faults[0]
    assert "partitions: partition_key" in report.faults[0]
    assert limited.list_collections() == []

    report = Chain(directory.path, limited).run(rename=rename)["news"]
    assert f"partition number ({MOST}) exceeds max configuration ({MOST})" in report.faults[0]
    assert limited.list_collections() == []

    report = keyed(limited, directory.path).run()["news"]
    assert (report.status, report.faults, len(report.partitions)) == (VERIFIED, (), MANY)
    assert counted(report) == dict.fromkeys(ids, (0, 2, 2))
    assert stored(limited) == expected(directory, *ids)


def test_an_append_that_the_server_refuses_leaves_the_collection_as_it_was(
    limited: MilvusClient, tmp_path: Path
) -> None:
    there = {"_default": random_rows([1], 1)} | {f"p{number}": {} for number in range(MOST - 3)}
    make_collection(limited, "old", there, metric="L2")
    directory = write_directory(tmp_path / "milvus", {"old": {"a": [2], "b": [3], "c": [4]}})
    chain = Chain(directory.path, limited)
    report = chain.run({"old": ["a", "b", "c"]}, "append")["old"]
    assert f"exceeds max configuration ({MOST})" in report.faults[0]
    assert sorted(limited.list_partitions("old")) == sorted(there)
    report = chain.run({"old": ["a", "b"]}, "append")["old"]
    assert (report.status, report.action) == (VERIFIED, "appended")
