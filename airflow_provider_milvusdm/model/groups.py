"""Groups of small inputs: each group is taken by one task, because a task costs more than a small input's work."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

MEMBERS = 64
"""Of a group, at most, where tasks run in parallel. A mapped task costs about a second, and a small collection waits
seconds for a server: with more members, a run of some hundred collections would leave workers without a task."""
SHARE = 4
"""A group has at most this fraction of a load unit's bytes: members are verified side by side, and what is read of them
is in memory at once."""
PART_BYTES = 128 << 10
"""What a segment, or an empty partition, counts for besides its vectors: to open its files takes as long as to read as
many bytes."""

Member = TypeVar("Member")


@dataclass
class _Group(Generic[Member]):
    members: list[Member]
    work: int


def group_small(
    members: Sequence[Member],
    work: Callable[[Member], int],
    kind: Callable[[Member], Hashable],
    unit_bytes: int,
    limit: int,
    most: int = MEMBERS,
) -> list[list[Member]]:
    """Groups in the order of their first members; a member with more work than a group may have is alone.

    :param work: of a member, in bytes.
    :param kind: only members of the same kind are grouped.
    :param unit_bytes: size of a load unit.
    :param limit: if there would be more groups, they get larger. Each kind has a group all the same.
    :param most: members of a group, at most.
    """
    limit = max(limit, len(set(map(kind, members))))
    capacity = max(unit_bytes // SHARE, 1)
    while len(groups := _group(members, work, kind, capacity, most)) > limit:
        capacity, most = 2 * capacity, 2 * most
    return [group.members for group in groups]


def _group(
    members: Sequence[Member],
    work: Callable[[Member], int],
    kind: Callable[[Member], Hashable],
    capacity: int,
    most: int,
) -> list[_Group[Member]]:
    groups: list[_Group[Member]] = []
    growing: dict[Hashable, _Group[Member]] = {}
    for member in members:
        added, group = work(member), growing.get(kind(member))
        if group and group.work + added <= capacity and len(group.members) < most:
            group.members.append(member)
            group.work += added
            continue
        groups.append(_Group([member], added))
        if added < capacity:
            growing[kind(member)] = groups[-1]
    return groups
