"""A large partition is resolved by several tasks, each of which takes a share: the result is that of one task."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import ChangedSourceError, RefusedRowsError, SourceError, SourceNotFoundError
from airflow_provider_milvusdm.manifests import DuplicateCounts, PartitionGroup, ResolvedGroup, from_json, to_json
from airflow_provider_milvusdm.model import shares
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.model.shares import Share
from airflow_provider_milvusdm.rows import key_ranges, key_space, live_rows, partition
from airflow_provider_milvusdm.rows.divide import divide_groups
from airflow_provider_milvusdm.rows.join_shares import join_shares
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.targets.plan import plan_collections
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.reading import assert_in_order, inspect, read_rows
from tests.support.rich_ids import write_random

POLICIES = [
    RowPolicies(*choice) for choice in product(["error", "keep_first", "keep_last", "remap"], ["error", "skip"])
]


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares, ranges, windows and batches of a few rows."""
    monkeypatch.setattr(shares, "SHARE_ROWS", 20)
    monkeypatch.setattr(key_space, "HELD_IDS", 30)
    monkeypatch.setattr(key_space, "SHARED_IDS", 4)
    monkeypatch.setattr(live_rows, "IDS_A_BATCH", 9)
    monkeypatch.setattr(partition, "rows_within", lambda _: 7)
    for name in ("MAX_RANGE_ROWS", "MIN_RANGE_ROWS"):
        monkeypatch.setattr(key_ranges, name, 4)


def divided(group: PartitionGroup) -> list[PartitionGroup]:
    return [from_json(PartitionGroup, to_json(share)) for share in divide_groups([group], 1024)]


def whole_groups(path: Path, *, one_key_space: bool) -> list[PartitionGroup]:
    """A group for each partition, or one for all."""
    [group] = inspect(path, max_tasks=2, unit_bytes=100)
    if one_key_space:
        return [replace(group, one_key_space=True)]
    return [replace(group, partitions=(partition,)) for partition in group.partitions]


def resolve_each(groups: Sequence[PartitionGroup], policies: RowPolicies) -> tuple[list[ResolvedGroup], Counter[str]]:
    """What each task, the last one first, passes on, and how many rows or ids their faults are about, by kind."""
    resolved, faults = [], Counter[str]()
    for group in reversed(groups):
        try:
            resolved.append(from_json(ResolvedGroup, to_json(resolve_group(group, policies))))
        except SourceError as fault:
            for number, about in re.findall(r"([0-9]+) (ids are on rows with|vectors of collection)", str(fault)):
                faults[about] += int(number)
            faults["unreadable"] += len(re.findall("Milvus 2.x can't return", str(fault)))
    return resolved, faults


@pytest.mark.usefixtures("small_shares")
@pytest.mark.parametrize("one_key_space", [False, True], ids=["partitions", "one key space"])
@pytest.mark.parametrize("seed", range(10))
def test_shares_make_what_one_task_makes(tmp_path: Path, seed: int, *, one_key_space: bool) -> None:
    for group in whole_groups(write_random(tmp_path / "milvus", seed), one_key_space=one_key_space):
        parts = divided(group)
        assert join_shares(parts, [])[0] == [group]
        assert len(parts) == max(-(-sum(part.live_rows for part in group.partitions) // 20), 1)
        for policies in POLICIES:
            expected, expected_faults = resolve_each([group], policies)
            resolved, faults = resolve_each(parts, policies)
            if expected_faults["vectors of collection"]:  # other shares may have found more
                assert faults["vectors of collection"] == expected_faults["vectors of collection"]
            else:
                assert faults == expected_faults
                assert join_shares(parts, resolved)[1] == expected


def one_partition(directory: Milvus1xDirectory, segments: Sequence[Sequence[int]]) -> PartitionGroup:
    """The group of a partition with these ids by segment; all vectors are equal."""
    news = directory.collection("news", dimension=2)
    for number, ids in enumerate(segments):
        directory.segment(news, ids, np.ones((len(ids), 2)), segment_id=str(number))
    [group] = inspect(directory.write())
    return group


def shares_of(groups: Sequence[PartitionGroup]) -> list[Share]:
    return [group.share for group in groups if group.share]


@pytest.mark.usefixtures("small_shares")
def test_a_share_searches_only_segments_that_can_have_its_ids(directory: Milvus1xDirectory) -> None:
    group = one_partition(directory, [range(first, first + 20) for first in range(0, 100, 20)])
    parts = divided(group)
    read = [[row_slice.segment for row_slice in share.searched] for share in shares_of(parts)]
    assert max(map(len, read)) <= 2
    assert {name for names in read for name in names} == {f"news/{number}" for number in range(5)}
    searched = [share.ids for share in shares_of(parts) if share.ids]
    assert [searched[0][0], searched[-1][1]] == [-(2**63), 2**63 - 1]
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(searched))


@pytest.mark.usefixtures("small_shares")
def test_the_rows_of_a_segment_are_divided_and_empty_segments_belong_to_a_share(directory: Milvus1xDirectory) -> None:
    group = one_partition(directory, [[], range(50), [], range(50, 60), []])
    parts = [
        [(row_slice.segment[-1], row_slice.start, row_slice.stop) for row_slice in share.slices]
        for share in shares_of(divided(group))
    ]
    assert parts == [
        [("0", 0, 0), ("1", 0, 20)],
        [("1", 20, 40)],
        [("1", 40, 50), ("2", 0, 0), ("3", 0, 10), ("4", 0, 0)],
    ]


@pytest.mark.usefixtures("small_shares")
def test_duplicates_in_different_shares_and_at_their_borders_are_one_row(directory: Milvus1xDirectory) -> None:
    group = one_partition(directory, [range(20), [*range(19, 30), *range(9)], range(29, 49), [5] * 20])
    parts = divided(group)
    resolved, faults = resolve_each(parts, RowPolicies())
    [joined] = join_shares(parts, resolved)[1]
    assert not faults
    assert (joined.partitions[0].live_rows, joined.partitions[0].rows) == (80, 49)
    [(_, rows)] = read_rows(joined.units).items()
    assert sorted(row_id for row_id, _ in rows) == list(range(49))


@pytest.mark.usefixtures("small_shares")
def test_a_fault_says_which_ids_the_share_searched(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    for number in range(2):
        directory.segment(news, range(40), np.full((40, 2), number), segment_id=str(number))
    [group] = inspect(directory.write())
    faults = []
    for part in divided(group):
        with pytest.raises(RefusedRowsError) as fault:
            resolve_group(part)
        faults.append(str(fault.value))
    assert_in_order(faults[0], ["of collection 'news' (of ids up to", "id 0 in segments news/0, news/1"])
    assert "of collection 'news' (of ids from" in faults[-1]
    assert sum(int(text.split()[0]) for text in faults) == 40


@pytest.mark.usefixtures("small_shares")
def test_a_segment_that_changed_since_the_partition_was_divided_is_refused(directory: Milvus1xDirectory) -> None:
    group = one_partition(directory, [range(20), range(20, 40), range(15, 35)])
    first, *others = divided(group)
    resolve_group(first)
    path = directory.tables_folder / "news" / "2" / "2.uid"
    content = path.read_bytes()
    path.write_bytes(content[:8] + content[16:] + content[8:16])
    os.utime(path, ns=(1, 1))
    for part in others:
        with pytest.raises(ChangedSourceError, match="Segment news/2 changed since"):
            resolve_group(part)


@pytest.mark.usefixtures("small_shares")
def test_a_segment_that_changes_while_a_share_is_read_is_refused(
    directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = divided(one_partition(directory, [range(20), range(20, 40)]))[0]
    resolve = key_space.KeySpace.resolve

    def change_and_resolve(ids: key_space.KeySpace) -> DuplicateCounts:
        os.utime(directory.tables_folder / "news" / "0" / "0.rv", ns=(1, 1))
        return resolve(ids)

    monkeypatch.setattr(key_space.KeySpace, "resolve", change_and_resolve)
    with pytest.raises(ChangedSourceError, match="Segment news/0 changed"):
        resolve_group(part)


@pytest.mark.usefixtures("small_shares")
def test_a_segment_that_is_gone_is_named_by_the_shares_that_need_it(directory: Milvus1xDirectory) -> None:
    first, *_, last = divided(one_partition(directory, [range(20), range(20, 40), range(40, 60)]))
    shutil.rmtree(directory.tables_folder / "news" / "2")
    resolve_group(first)
    with pytest.raises(SourceNotFoundError, match=r"news/2"):
        resolve_group(last)


@pytest.mark.usefixtures("small_shares")
def test_damaged_segments_of_a_large_partition_are_found_before_it_is_divided(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    directory.segment(news, range(50), np.ones((50, 2)), segment_id="1")
    directory.segment(news, [1], np.ones((1, 2)), row_count=9, segment_id="2")
    directory.segment(news, [2], np.ones((1, 2)), write_folder=False, segment_id="3")
    [group] = divide_groups(inspect(directory.write()), 1024)
    assert_in_order(group.error, ["2 faults", "number of rows", "news/2", "folder is gone", "news/3"])
    with pytest.raises(SourceError, match="2 faults"):
        resolve_group(group)


@pytest.mark.usefixtures("small_shares")
def test_a_partition_of_which_a_share_is_missing_was_not_resolved(directory: Milvus1xDirectory) -> None:
    group = one_partition(directory, [range(60)])
    parts = divided(group)
    resolved, _ = resolve_each(parts, RowPolicies())
    for number in range(3):
        assert join_shares(parts, [*resolved[:number], *resolved[number + 1 :]]) == ([group], [])


@pytest.mark.usefixtures("small_shares")
@pytest.mark.parametrize("duplicate_ids", ["keep_first", "remap"])
def test_shares_with_different_policies_are_not_joined(directory: Milvus1xDirectory, duplicate_ids: str) -> None:
    """A finite row would be lost: a share excludes it as the duplicate of a row that another share excludes."""
    ids, vectors = np.arange(60), np.ones((60, 2), np.float32)
    ids[5], vectors[5] = 45, np.nan
    directory.segment(directory.collection("news", dimension=2), ids, vectors)
    directory.segment(directory.collection("rest", dimension=2), range(60), np.ones((60, 2)))
    failed, *parts = [part for group in inspect(directory.write()) for part in divided(group)]
    with pytest.raises(RefusedRowsError, match="NaN"):
        resolve_group(failed, RowPolicies("keep_first"))
    edited = RowPolicies(duplicate_ids, "skip")
    resolved = [resolve_group(failed, edited), *(resolve_group(part, RowPolicies("keep_first")) for part in parts)]
    news, rest = plan_collections([failed, *parts], resolved, {}, rename={})
    assert "partition '_default' of collection 'news' were resolved with different policies" in news.error
    assert (rest.error, rest.rows) == ("", 60)


@pytest.mark.usefixtures("small_shares")
def test_a_large_partition_of_which_the_log_deletes_all_rows_is_empty(directory: Milvus1xDirectory) -> None:
    log = Log(directory.log_folder)
    log.add(DELETE, "news", "", tuple(range(60)))
    log.write()
    group = one_partition(directory, [range(40), range(40, 60)])
    resolved, faults = resolve_each(parts := divided(group), RowPolicies())
    assert not faults
    assert join_shares(parts, resolved)[1] == [resolve_group(group)]
    assert resolve_group(group).partitions[0].rows == 0


@pytest.mark.usefixtures("small_shares")
def test_small_partitions_stay_together_and_a_run_has_a_bounded_number_of_shares(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    for tag, rows in {"a": 3, "b": 4, "large": 500, "c": 5, "huge": 1000, "d": 6, "e": 7}.items():
        directory.segment(directory.partition(news, tag, table_id=tag), range(rows), np.ones((rows, 2)))
    groups = inspect(directory.write(), {"news": ["a", "b", "large", "c", "huge", "d", "e"]}, max_tasks=2)
    found = divide_groups(groups, 20)
    assert len(shares_of(found)) <= 10
    tags = [tuple(partition.tag for partition in group.partitions) for group in found]
    assert list(dict.fromkeys(tags)) == [("a", "b"), ("large",), ("c",), ("huge",), ("d", "e")]
    assert next(group.label for group in found if group.share) == "news/large 1/3"
    assert divide_groups(groups, 2)[0].share is None
