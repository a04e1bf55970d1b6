"""Read a target by ranges of its ids, several reads at once, and find the ranges that differ from the source's.

Only the sums that resolve made of the source are needed, see :mod:`airflow_provider_milvusdm.rows.key_ranges`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_milvusdm.model.mask import Mask
from airflow_provider_milvusdm.rows.key_ranges import ChosenRanges, KeyRanges
from airflow_provider_milvusdm.rows.row_hashes import hash_rows
from airflow_provider_milvusdm.targets.milvus.server.capabilities import serves_requests_concurrently
from airflow_provider_milvusdm.targets.milvus.server.queries import READS_AT_ONCE
from airflow_provider_milvusdm.targets.milvus.server.range_queries import RangeQueries

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection

REPLY_BYTES = 16 << 20
LITE_REPLY_BYTES = 64 << 20
"""Each query of Milvus Lite goes through all rows."""
BYTES_IN_FLIGHT = 48 << 20
STRIDE_BYTES = 512 << 20
STRIDE_RANGES = 1024
ID_BYTES = 10
"""Of a varint in a reply, at most."""


def find_differing(
    client: MilvusClient, target: TargetCollection, expected: Mapping[str, KeyRanges], vector_bytes: int
) -> dict[str, ChosenRanges]:
    """By partition: the ranges in which the target does not hold the ``expected`` rows; there may be none."""
    differ = {name: np.zeros(len(ranges), np.bool_) for name, ranges in expected.items()}
    for stride in RangeReader(client, target, expected, vector_bytes).compare(differ):
        for compared in stride:
            differ[compared.partition][list(compared.differ)] = True
    return {name: ChosenRanges(ranges, differ[name]) for name, ranges in expected.items()}


@dataclass(frozen=True)
class RangeComparison:
    """The numbers of the ranges of a partition that were compared; ``differ``: those that differ from the source's."""

    partition: str
    numbers: tuple[int, ...]
    differ: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """A query: the lowest and the highest id to ask for, and about how many bytes their rows have."""

    partition: str
    first: int
    last: int
    size: float


class RangeReader:
    """Reads a collection of the target by ranges.

    :param expected: the ranges of the source's rows, by target partition.
    :param vector_bytes: bytes of a vector.
    """

    def __init__(
        self, client: MilvusClient, target: TargetCollection, expected: Mapping[str, KeyRanges], vector_bytes: int
    ) -> None:
        self.queries, self.expected = RangeQueries(client, target), expected
        self.row_bytes = vector_bytes + ID_BYTES * (2 if target.own_keys else 1)
        self.concurrent = serves_requests_concurrently(client)
        self.reply_bytes = REPLY_BYTES if self.concurrent else LITE_REPLY_BYTES
        self.lock = Lock()

    def compare(self, equal: Mapping[str, Mask]) -> Iterator[list[RangeComparison]]:
        """Compare all ranges except those known to be ``equal``, stride after stride."""
        for stride in list(self._strides(equal)):
            found = {name: KeyRanges(self.expected[name].firsts) for name in stride}
            self._read([read for name, numbers in stride.items() for read in self._reads(name, numbers)], found)
            yield [self._compared(name, numbers, found[name]) for name, numbers in stride.items()]

    def _strides(self, equal: Mapping[str, Mask]) -> Iterator[dict[str, list[int]]]:
        """Numbers of the ranges to read between two checkpoints, by partition."""
        stride: dict[str, list[int]] = {}
        ranges, size = 0, 0.0
        for name, expected in self.expected.items():
            for number in np.flatnonzero(~equal[name]).tolist():
                stride.setdefault(name, []).append(number)
                ranges, size = ranges + 1, size + self._size(expected, number)
                if ranges == STRIDE_RANGES or size >= STRIDE_BYTES:
                    yield stride
                    stride, ranges, size = {}, 0, 0.0
        if stride:
            yield stride

    def _size(self, key_ranges: KeyRanges, number: int) -> float:
        return float(key_ranges.rows[number]) * self.row_bytes

    def _reads(self, name: str, numbers: Sequence[int]) -> Iterator[Read]:
        """Reads for ranges of a partition: large ranges are split, small adjacent ones are read together."""
        expected = self.expected[name]
        joined: Read | None = None
        for number in numbers:
            first, last = expected.bounds(number)
            size = self._size(expected, number)
            if joined and joined.last + 1 == first and joined.size + size <= self.reply_bytes:
                joined = Read(name, joined.first, last, joined.size + size)
                continue
            if joined:
                yield from self._split(joined, expected.extent)
            joined = Read(name, first, last, size)
        if joined:
            yield from self._split(joined, expected.extent)

    def _split(self, read: Read, extent: tuple[int, int]) -> Iterator[Read]:
        """Parts that fit into replies if the ids are spread evenly between the lowest and the highest id."""
        parts = max(-(-int(read.size) // self.reply_bytes), 1)
        low, high = max(read.first, extent[0]), min(read.last, extent[1])
        cuts = {low + (high - low) * number // parts for number in range(1, parts)} - {read.first}
        for first, end in pairwise([read.first, *sorted(cuts), read.last + 1]):
            yield Read(read.partition, first, end - 1, read.size / parts)

    def _read(self, reads: Sequence[Read], found: Mapping[str, KeyRanges]) -> None:
        """Count the rows that the target returns in ``found``."""

        def read_one(read: Read) -> None:
            for batch in self.queries.read(read.partition, read.first, read.last):
                hashes = hash_rows(batch)
                with self.lock:
                    found[read.partition].add(batch.ids, hashes)

        largest = max(read.size for read in reads)
        fitting = max(int(BYTES_IN_FLIGHT // max(largest, 1)), 1)
        at_once = min(fitting, READS_AT_ONCE) if self.concurrent else 1
        with ThreadPoolExecutor(at_once) as threads:
            try:
                list(threads.map(read_one, reads))
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _compared(self, name: str, numbers: Sequence[int], found: KeyRanges) -> RangeComparison:
        differ = self.expected[name].differing(found)
        return RangeComparison(name, tuple(numbers), tuple(number for number in numbers if differ[number]))
