"""Segments divided into load units, partitions into groups: exactly, and within Airflow's limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric, PartitionSpec, Slice, SourceRef
from airflow_provider_milvusdm.model.units import (
    LoadUnit,
    cut_units,
    group_sizes,
    number_units,
    split_evenly,
    unit_bytes_within,
    unit_rows,
)

COUNTS = st.lists(st.integers(0, 5000), min_size=1, max_size=20)
SEGMENTS = st.lists(st.integers(0, 300), max_size=20)


def slices_of(rows: list[int]) -> list[Slice]:
    return [Slice(f"p{number % 3}", f"t/{number}", 0, count) for number, count in enumerate(rows)]


@given(rows=SEGMENTS, capacity=st.integers(1, 400))
def test_units_have_each_row_once_in_order_and_are_full(rows: list[int], capacity: int) -> None:
    units = list(cut_units(slices_of(rows), capacity))
    slices = [row_slice for unit in units for row_slice in unit]
    assert [
        (row_slice.partition, row_slice.segment, row)
        for row_slice in slices
        for row in range(row_slice.start, row_slice.stop)
    ] == [
        (row_slice.partition, row_slice.segment, row) for row_slice in slices_of(rows) for row in range(row_slice.stop)
    ]
    assert all(row_slice.stored_rows > 0 for row_slice in slices)
    sizes = [sum(row_slice.stored_rows for row_slice in unit) for unit in units]
    assert all(size == capacity for size in sizes[:-1])
    assert all(0 < size <= capacity for size in sizes[-1:])


def test_a_large_segment_is_split_and_small_ones_are_grouped() -> None:
    assert list(cut_units(slices_of([3, 1, 5]), 4)) == [
        (Slice("p0", "t/0", 0, 3), Slice("p1", "t/1", 0, 1)),
        (Slice("p2", "t/2", 0, 4),),
        (Slice("p2", "t/2", 4, 5),),
    ]


LARGE = 1 << 60


@given(partitions=COUNTS, works=st.data(), limit=st.integers(0, 20_000))
def test_groups_stay_within_the_limit_and_each_collection_has_one(
    partitions: list[int], works: st.DataObject, limit: int
) -> None:
    sizes = group_sizes(partitions, [works.draw(st.integers(0, 10_000)) for _ in partitions], 10, limit)
    assert sum(sizes) <= max(limit, len(partitions))
    assert all(1 <= size <= max(count, 1) for size, count in zip(sizes, partitions, strict=True))


@pytest.mark.parametrize(
    ("partitions", "limit", "expected"),
    [
        ([1, 3], 4, [1, 3]),
        ([0, 0, 0, 10], 13, [1, 1, 1, 10]),
        ([0, 0, 0, 10], 12, [1, 1, 1, 9]),
        ([4096], 512, [512]),
        ([10, 10], 2, [1, 1]),
        ([30, 10], 10, [7, 2]),
        ([10, 10, 10], 2, [1, 1, 1]),
    ],
)
def test_groups_are_shared_out_in_proportion(partitions: list[int], limit: int, expected: list[int]) -> None:
    assert group_sizes(partitions, [LARGE] * len(partitions), 1, limit) == expected


@pytest.mark.parametrize(("work", "expected"), [(0, 1), (256, 1), (257, 2), (1024, 4), (10_000, 8)])
def test_a_collection_has_a_group_for_each_unit_and_no_more_than_partitions(work: int, expected: int) -> None:
    assert group_sizes([8], [work], 256, 512) == [expected]


@given(partitions=st.integers(0, 200), groups=st.integers(1, 200))
def test_partitions_are_split_evenly_in_order(partitions: int, groups: int) -> None:
    specs = [PartitionSpec(str(number)) for number in range(partitions)]
    split = split_evenly(specs, groups)
    assert [spec for group in split for spec in group] == specs
    assert len(split) == groups
    assert max(map(len, split)) - min(map(len, split)) <= 1


@given(
    groups=st.lists(st.tuples(SEGMENTS, st.floats(0, 1)), min_size=1, max_size=20),
    vector_bytes=st.integers(1, 300),
    wanted=st.integers(1, 1000),
    more=st.integers(1, 50),
)
def test_a_run_has_no_more_units_than_its_limit_however_many_rows_are_deleted(
    groups: list[tuple[list[int], float]], vector_bytes: int, wanted: int, more: int
) -> None:
    limit = 2 * len(groups) + more
    live = [round(sum(rows) * share) for rows, share in groups]
    unit_bytes = unit_bytes_within(sum(live) * vector_bytes, len(groups), limit, wanted)
    assert unit_bytes >= wanted
    units = 0
    for (rows, _), live_rows in zip(groups, live, strict=True):
        capacity = unit_rows(unit_bytes, vector_bytes, live_rows, sum(rows))
        units += len(list(cut_units(slices_of(rows), capacity)))
    assert units <= limit


@pytest.mark.parametrize(
    ("unit_bytes", "vector_bytes", "live", "stored", "expected"),
    [
        (256, 16, 1000, 1000, 16),
        (250, 16, 1000, 1000, 16),
        (1, 16, 10, 10, 1),
        (256, 16, 100, 1000, 143),
        (256, 16, 0, 1000, 1000),
        (256, 16, 0, 0, 16),
    ],
)
def test_a_unit_has_rows_for_its_bytes_and_more_if_rows_are_deleted(
    unit_bytes: int, vector_bytes: int, live: int, stored: int, expected: int
) -> None:
    assert unit_rows(unit_bytes, vector_bytes, live, stored) == expected


def test_units_follow_each_other_without_a_gap() -> None:
    slices = [row_slice for unit in cut_units([Slice("p", "t/1", 0, 1000)], 7) for row_slice in unit]
    assert all(before.stop == after.start for before, after in pairwise(slices))


def test_labels_number_the_units_of_a_partition() -> None:
    source, collection = SourceRef("milvus1x", ""), CollectionSpec("news", 4, Metric.L2)
    cut = cut_units(
        [Slice("a", "1", 0, 25), Slice("b", "2", 0, 5), Slice("c", "3", 0, 5), Slice("d", "4", 0, 3)], capacity=10
    )
    units = number_units([LoadUnit(source, collection, slices) for slices in cut])
    assert [unit.label for unit in units] == ["news/a 1/3", "news/a 2/3", "news/a +1 3/3", "news/c +1"]
