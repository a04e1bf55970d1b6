"""Groups of small inputs: in order, of one kind, no larger than a task should be, and no more than a run may map."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_milvusdm.model.groups import MEMBERS, group_small

UNIT = 400
WORKS = st.lists(st.tuples(st.integers(0, 2 * UNIT), st.booleans()), max_size=300)
Item = tuple[int, int, bool]


def group(works: list[tuple[int, bool]], limit: int = 1024) -> list[list[Item]]:
    """Groups of (number, work, kind)."""
    items = [(number, work, kind) for number, (work, kind) in enumerate(works)]
    return group_small(items, lambda item: item[1], lambda item: item[2], UNIT, limit)


@given(works=WORKS, limit=st.integers(2, 50))
def test_each_member_is_in_one_group_of_its_kind_and_groups_are_in_order(
    works: list[tuple[int, bool]], limit: int
) -> None:
    groups = group(works, limit)
    assert sorted(item[0] for members in groups for item in members) == list(range(len(works)))
    assert all(len({item[2] for item in members}) == 1 for members in groups)
    assert all(members == sorted(members) for members in groups)
    assert [members[0][0] for members in groups] == sorted(members[0][0] for members in groups)
    assert len(groups) <= limit


@given(works=WORKS)
def test_groups_are_no_larger_than_a_share_of_a_unit(works: list[tuple[int, bool]]) -> None:
    for members in group(works):
        assert len(members) <= MEMBERS
        assert len(members) == 1 or sum(item[1] for item in members) <= UNIT // 4


def test_a_large_member_is_alone_and_does_not_part_small_ones() -> None:
    groups = group([(1, True), (UNIT, True), (1, True), (1, False), (1, True)])
    assert [[item[0] for item in members] for members in groups] == [[0, 2, 4], [1], [3]]


def test_many_members_get_few_groups() -> None:
    assert [len(members) for members in group([(0, True)] * 300)] == [64, 64, 64, 64, 44]
    assert len(group([(0, True)] * 5000)) == 79
    assert [len(members) for members in group([(0, True)] * 300, limit=2)] == [256, 44]


def test_nothing_has_no_groups() -> None:
    assert group([]) == []


def test_each_kind_has_a_group_even_if_the_limit_is_lower() -> None:
    assert len(group([(1, True), (1, False)], limit=1)) == 2
