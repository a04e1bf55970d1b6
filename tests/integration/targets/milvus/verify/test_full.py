"""Full verification: each kind of difference is found and named, and what is equal passes, by ranges of any size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.report import FAILED, VERIFIED
from airflow_provider_milvusdm.rows import key_ranges
from airflow_provider_milvusdm.targets.milvus import compare, ranges
from airflow_provider_milvusdm.targets.milvus.server import queries
from airflow_provider_milvusdm.targets.milvus.server.row_queries import RowQueries
from airflow_provider_milvusdm.targets.milvus.verify import full
from tests.support.chain import Chain
from tests.support.collections_2x import called, insert, is_lite, make_collection
from tests.support.directories import random_rows, random_vectors, write_directory
from tests.support.killed import Checkpoints, KilledError, WatchedCheckpoints
from tests.support.loaded import Loaded
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING, IP

LOWEST, HIGHEST = -(2**63), 2**63 - 2
PARTITIONS = {
    "_default": [LOWEST, *range(17), HIGHEST - 1, HIGHEST],
    "lost": range(100, 120),
    "extra": range(200, 220),
    "changed": range(300, 320),
    "empty": [],
}
ROWS = 80


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": PARTITIONS})


@pytest.fixture(params=["a range", "ranges of three rows", "ranges, each read in parts", "a window of ten IDs"])
def by_ranges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition is one range, or many that begin with an ID of it; read together, or each by several queries."""
    if request.param == "a window of ten IDs":
        monkeypatch.setattr(compare, "WINDOW_IDS", 10)
        for name in ("IDS_A_QUERY", "LITE_IDS_A_QUERY"):
            monkeypatch.setattr(queries, name, 10)
    elif request.param != "a range":
        use_small_ranges(monkeypatch)
    if request.param == "ranges, each read in parts":
        for name in ("REPLY_BYTES", "LITE_REPLY_BYTES"):
            monkeypatch.setattr(ranges, name, 60)
        monkeypatch.setattr(ranges, "STRIDE_RANGES", 5)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_ranges(monkeypatch)


def use_small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of about three rows."""
    for name in ("MIN_RANGE_ROWS", "MAX_RANGE_ROWS"):
        monkeypatch.setattr(key_ranges, name, 3)


def change(client: MilvusClient, partition: str, row_id: int, vector: bytes) -> None:
    row = {"id": row_id, "embedding": np.frombuffer(vector, "<f4")}
    client.upsert(called(client, "news"), [row], partition_name=partition)


def remove(client: MilvusClient, partition: str, ids: list[int]) -> None:
    """Delete, and flush: Milvus Lite takes back a deletion that is not flushed where the ID is inserted elsewhere."""
    client.delete(called(client, "news"), ids=ids, partition_name=partition)
    if is_lite(client):
        client.flush(called(client, "news"))


def flipped(vector: bytes, *bits: int) -> bytes:
    numbers = np.frombuffer(vector, np.uint8).copy()
    for bit in bits:
        numbers[bit // 8] ^= 1 << bit % 8
    return numbers.tobytes()


@pytest.mark.usefixtures("by_ranges")
def test_every_kind_of_difference_is_named(client: MilvusClient, directory: Milvus1xDirectory) -> None:
    loaded = Loaded(client, directory.path)
    report = loaded.verify(verify="full")
    assert (report.status, report.sampled, report.faults) == (VERIFIED, ROWS, ())
    remove(client, "lost", [110, 117])
    insert(client, called(client, "news"), "extra", random_rows(range(900, 925), 7))
    change(client, "changed", 305, flipped(directory.live("news", "changed")[305], 0))
    faults = loaded.verify(verify="full").faults
    named = ", ".join(map(str, range(900, 920)))
    assert set(faults) == {
        "partition 'lost' (target 'lost'): expected 0 rows from before and 20 loaded, counted 18 in the target",
        "partition 'extra' (target 'extra'): expected 0 rows from before and 20 loaded, counted 45 in the target",
        "partition 'lost': 2 rows are missing in the target: ids 110, 117",
        f"partition 'extra': 25 rows are in the target and not in the source: ids {named} and 5 more",
        "partition 'changed': 1 rows differ in the target: ids 305",
    }


@pytest.mark.usefixtures("by_ranges")
def test_what_the_counts_hide_is_found(lite_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    loaded = Loaded(lite_client, directory.path)
    remove(lite_client, "lost", [110])
    insert(lite_client, called(lite_client, "news"), "lost", random_rows([LOWEST], 7))
    assert loaded.verify(verify="counts").status == VERIFIED
    assert loaded.verify(verify="full").faults == (
        "partition 'lost': 1 rows are missing in the target: ids 110",
        f"partition 'lost': 1 rows are in the target and not in the source: ids {LOWEST}",
    )


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("row_id", [LOWEST, 0, 16, HIGHEST])
def test_two_flipped_signs_are_found_in_the_first_row_and_in_the_last(
    lite_client: MilvusClient, directory: Milvus1xDirectory, row_id: int
) -> None:
    loaded = Loaded(lite_client, directory.path)
    change(lite_client, "_default", row_id, flipped(directory.live("news")[row_id], 31, 63))
    [fault] = loaded.verify(verify="full").faults
    assert fault == f"partition '_default': 1 rows differ in the target: ids {row_id}"


@pytest.mark.usefixtures("small_ranges")
def test_each_row_of_small_ranges_is_missed_and_each_stranger_between_them_found(
    client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    """Whatever row a range begins or ends with."""
    loaded = Loaded(client, directory.path)
    remove(client, "lost", list(range(100, 120)))
    insert(client, called(client, "news"), "extra", random_rows([*range(190, 200), *range(220, 230)], 7))
    insert(client, called(client, "news"), "empty", random_rows([0], 7))
    faults = loaded.verify(verify="full").faults[3:]
    assert faults == (
        f"partition 'lost': 20 rows are missing in the target: ids {', '.join(map(str, range(100, 120)))}",
        "partition 'extra': 20 rows are in the target and not in the source: ids "
        + ", ".join(map(str, [*range(190, 200), *range(220, 230)])),
        "partition 'empty': 1 rows are in the target and not in the source: ids 0",
    )


@pytest.mark.usefixtures("small_ranges")
def test_a_row_moved_to_another_partition_is_found_in_both(client: MilvusClient, directory: Milvus1xDirectory) -> None:
    loaded = Loaded(client, directory.path)
    remove(client, "lost", [110])
    insert(client, called(client, "news"), "empty", {110: directory.live("news", "lost")[110]})
    faults = loaded.verify(verify="full").faults
    assert "partition 'lost': 1 rows are missing in the target: ids 110" in faults
    assert "partition 'empty': 1 rows are in the target and not in the source: ids 110" in faults


@pytest.mark.usefixtures("small_ranges")
def test_exchanged_vectors_are_found(lite_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    loaded, rows = Loaded(lite_client, directory.path), directory.live("news", "changed")
    change(lite_client, "changed", 305, rows[315])
    change(lite_client, "changed", 315, rows[305])
    [fault] = loaded.verify(verify="full").faults
    assert fault.startswith("partition 'changed': 2 rows differ in the target: ids ")
    assert {"305", "315"} == set(fault.rpartition("ids ")[2].split(", "))


@pytest.mark.usefixtures("small_ranges")
def test_ids_on_several_rows_are_named(server_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    client, loaded = server_client, Loaded(server_client, directory.path)
    rows = directory.live("news", "lost")
    insert(client, called(client, "news"), "lost", {105: rows[105], 119: rows[119]})
    insert(client, called(client, "news"), "lost", {105: rows[105]})
    assert loaded.verify(verify="full").faults == (
        "partition 'lost' (target 'lost'): expected 0 rows from before and 20 loaded, counted 23 in the target",
        "partition 'lost': 2 rows share their id with another row of the target: ids 105, 119",
    )


@pytest.mark.usefixtures("small_ranges")
def test_a_doubled_row_in_the_place_of_another_is_found(
    server_client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    client, loaded = server_client, Loaded(server_client, directory.path)
    rows = directory.live("news", "lost")
    remove(client, "lost", [106])
    insert(client, called(client, "news"), "lost", {105: rows[105]})
    assert loaded.verify(verify="counts").status == VERIFIED
    faults = loaded.verify(verify="full").faults
    assert "partition 'lost': 1 rows are missing in the target: ids 106" in faults


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("metric", [HAMMING, IP])
def test_other_vectors(server_client: MilvusClient, tmp_path: Path, metric: int) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=24, metric=metric)
    random = np.random.default_rng(1)
    bits = random.integers(0, 256, (10, 3), np.uint8)
    directory.segment(news, range(10), bits if metric == HAMMING else random.standard_normal((10, 24), np.float32))
    directory.write()
    loaded = Loaded(server_client, directory.path)
    assert loaded.verify(verify="full").sampled == 10
    changed = flipped(directory.live("news")[4], 17)
    vector: Any = changed if metric == HAMMING else np.frombuffer(changed, "<f4")
    server_client.upsert(called(server_client, "news"), [{"id": 4, "embedding": vector}])
    [fault] = loaded.verify(verify="full").faults
    assert fault == "partition '_default': 1 rows differ in the target: ids 4"


@pytest.mark.usefixtures("small_ranges")
def test_tags_as_a_partition_key(client: MilvusClient, tmp_path: Path) -> None:
    tags = {"_default": range(20), 'say "hi"': range(100, 120), "none": []}
    directory = write_directory(tmp_path / "milvus", {"news": tags})
    loaded = Loaded(client, directory.path, partitions="partition_key")
    report = loaded.verify(verify="full")
    assert (report.status, report.sampled) == (VERIFIED, 40)
    [row] = client.query("news", filter="id == 105", output_fields=["*"], consistency_level="Strong")
    client.delete("news", ids=[105])
    client.insert("news", [row | {"partition_tag": "_default"}])
    if is_lite(client):
        client.flush("news")
    faults = loaded.verify(verify="full").faults
    assert "partition 'say \"hi\"': 1 rows are missing in the target: ids 105" in faults
    assert "partition '_default': 1 rows are in the target and not in the source: ids 105" in faults


@pytest.mark.usefixtures("small_ranges")
def test_of_rows_with_keys_of_their_own_the_source_ids_are_compared_too(client: MilvusClient, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8)
    directory.segment(news, [5, 5, 6, 9], random_vectors(4, 1), deleted=[3])
    directory.segment(news, [5, 2**63 - 1], random_vectors(2, 2))
    directory.write()
    loaded = Loaded(client, directory.path, policies=RowPolicies(duplicate_ids="remap"))
    assert loaded.verify(verify="full").sampled == 5
    [row] = client.query("news", filter="source_id == 6", output_fields=["*"], consistency_level="Strong")
    client.upsert(called(client, "news"), [row | {"source_id": 7}])
    [fault] = loaded.verify(verify="full").faults
    assert fault == f"partition '_default': 1 rows differ in the target: ids {row['id']}"
    assert "sampled rows are missing or differ" in loaded.verify(verify="sample").faults[0]


@pytest.mark.usefixtures("small_ranges")
def test_rows_from_before_an_append_are_left_alone_and_those_appended_compared(
    client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    make_collection(client, "news", {"_default": random_rows([1000], 1)}, loaded=True)

    def spoil() -> None:
        change(client, "_default", 5, flipped(directory.live("news")[5], 3))

    report = Chain(directory.path, client).run(mode="append", verify="full", before_verify=spoil)["news"]
    assert report.faults == ("partition '_default': 1 rows differ in the target: ids 5",)
    change(client, "_default", 5, directory.live("news")[5])
    report = Chain(directory.path, client).run(mode="append", verify="full")["news"]
    assert (report.status, report.sampled) == (VERIFIED, ROWS)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("old", [[-9, -8], [1000, 1001], [-9, 1000]])
def test_appended_rows_beside_others_are_compared_by_ranges(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: list[int]
) -> None:
    make_collection(client, "news", {"_default": random_rows(old, 1), "a": random_rows([500], 2)}, loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(1, 30), "a": [], "b": [77]}})
    monkeypatch.setattr(RowQueries, "read_ids", lambda *_: pytest.fail("rows are compared one by one"))
    chain = Chain(directory.path, client)
    assert chain.run(mode="append", verify="full")["news"].status == VERIFIED
    monkeypatch.undo()
    use_small_ranges(monkeypatch)
    client.delete("news", ids=[29], partition_name="_default")
    insert(client, "news", "_default", random_rows([2000], 3))
    client.delete("news", ids=[77], partition_name="b")
    assert chain.run(mode="append", verify="full")["news"].faults == (
        "partition 'b' (target 'b'): expected 0 rows from before and 1 loaded, counted 0 in the target",
        "partition '_default': 1 rows are missing in the target: ids 29",
        "partition 'b': 1 rows are missing in the target: ids 77",
    )


@pytest.mark.parametrize("rows", [600, 900], ids=["75 MiB", "more than a segment may return"])
def test_a_reply_larger_than_a_server_sends_is_asked_for_in_parts(
    server_client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Where the IDs are not spread as the rows were thought to be."""
    directory = write_directory(
        tmp_path / "milvus", {"news": {"_default": [0, *range(2**60, 2**60 + rows)]}}, dimension=32_768
    )
    monkeypatch.setattr(ranges, "REPLY_BYTES", 40 << 20)
    reads = []
    query = RowQueries._query
    monkeypatch.setattr(RowQueries, "_query", lambda *asked: reads.append(asked) or query(*asked))
    report = Loaded(server_client, directory.path).verify(verify="full")
    assert (report.status, report.sampled) == (VERIFIED, rows + 1)
    assert len(reads) < 12


class Reads:
    """Reads of ranges, of which the process survives so many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.read = 1000, RowQueries.read
        monkeypatch.setattr(RowQueries, "read", lambda queries, *asked: self._read(queries, *asked))

    def _read(self, queries: RowQueries, partition: str, first: int, last: int) -> Iterator[Any]:
        if self.left == 0:
            raise KilledError
        self.left -= 1
        return self.read(queries, partition, first, last)

    def of(self, loaded: Loaded, checkpoints: Checkpoints) -> int:
        """How many it takes to verify from these checkpoints on."""
        self.left = 1000
        report = loaded.verify(verify="full", compared=checkpoints)
        assert (report.status, report.sampled) == (VERIFIED, ROWS)
        return 1000 - self.left

    def survive(self, loaded: Loaded, reads: int, checkpoints: Checkpoints) -> None:
        self.left = reads
        with pytest.raises(KilledError):
            loaded.verify(verify="full", compared=checkpoints)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """With a checkpoint after each range of three rows, and of the first of a partition for the rest."""
    use_small_ranges(monkeypatch)
    monkeypatch.setattr(ranges, "STRIDE_RANGES", 1)
    monkeypatch.setattr(full, "CHECKPOINT_SECONDS", 0)
    return Reads(monkeypatch)


def test_it_goes_on_where_it_was_interrupted(
    lite_client: MilvusClient, directory: Milvus1xDirectory, reads: Reads
) -> None:
    loaded = Loaded(lite_client, directory.path)
    whole = reads.of(loaded, Checkpoints())
    assert whole > 20
    for done in (1, whole // 2, whole - 1):
        checkpoints = Checkpoints()
        reads.survive(loaded, done, checkpoints)
        assert reads.of(loaded, checkpoints) == whole - done
        assert reads.of(loaded, checkpoints) == whole


def test_what_is_compared_in_a_moment_has_no_checkpoint(
    lite_client: MilvusClient, directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "CHECKPOINT_SECONDS", 60)
    checkpoints = Checkpoints()
    assert Loaded(lite_client, directory.path).verify(verify="full", compared=checkpoints).status == VERIFIED
    assert checkpoints == {}


def test_it_starts_anew_for_another_generation_or_where_something_was_wrong(
    lite_client: MilvusClient, directory: Milvus1xDirectory, reads: Reads
) -> None:
    loaded = Loaded(lite_client, directory.path)
    whole, checkpoints = reads.of(loaded, Checkpoints()), Checkpoints()
    lite_client.drop_collection("news")
    loaded = Loaded(lite_client, directory.path)
    reads.survive(loaded, whole - 1, checkpoints)
    loaded.load()
    insert(lite_client, called(lite_client, "news"), "_default", random_rows([LOWEST + 1], 7))
    reads.survive(loaded, whole - 1, checkpoints)
    lite_client.delete(called(lite_client, "news"), ids=[LOWEST + 1])
    assert reads.of(loaded, checkpoints) == whole


def test_a_retry_compares_all_rows_where_others_have_changed_which_partitions_differ(
    lite_client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "CHECKPOINT_SECONDS", 0)
    make_collection(lite_client, "news", {"a": random_rows([1, 3], 3), "b": random_rows([11, 13], 4)})
    directory = write_directory(tmp_path / "milvus", {"news": {"a": [0, 2, 4], "b": [10, 12, 14]}})
    chain = Chain(directory.path, lite_client)
    plans = chain.plan({"news": ["a", "b"]})
    created, _ = chain.create(plans, "append")
    loaded = chain.load(plans, created)
    change(lite_client, "b", 10, random_rows([10], 9)[10])

    def die() -> None:
        raise KilledError

    checkpoints = WatchedCheckpoints(1, die)  # once the rows of a were compared
    with pytest.raises(KilledError):
        chain.verify(plans, created, loaded, verify="full", compared=checkpoints)
    remove(lite_client, "a", [1, 3])
    insert(lite_client, "news", "a", random_rows([5, 6], 5))
    report = chain.verify(plans, created, loaded, verify="full", compared=checkpoints)["news"]
    assert report.faults == ("partition 'b': 1 rows differ in the target: ids 10",)


def test_rows_that_were_wrong_while_they_were_read_alone_are_a_fault(
    lite_client: MilvusClient, directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, read = Loaded(lite_client, directory.path), RowQueries.read
    monkeypatch.setattr(
        RowQueries,
        "read",
        lambda queries, name, *some: (batch.part(0, max(len(batch) - 1, 0)) for batch in read(queries, name, *some)),
    )
    report = loaded.verify(verify="full")
    assert report.status == FAILED
    assert report.faults[0].startswith(f"partition '_default': rows with ids {LOWEST} to {2**63 - 1} were not as ")
