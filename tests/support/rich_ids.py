"""Milvus 1.x directories with everything that resolve looks for: random ids, duplicates, deletions, NaN, a log."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.milvus1x_rows import HAMMING, L2, Table

UNREADABLE_ID = 2**63 - 1
COLLECTION = "news"


def write_random(folder: Path, seed: int) -> Path:
    """A directory of one collection with three partitions, one of them without rows; the same for the same seed."""
    random = np.random.default_rng(seed)
    directory = Milvus1xDirectory(folder)
    binary = bool(random.integers(0, 4) == 0)
    news = directory.collection(COLLECTION, dimension=16 if binary else 2, metric=HAMMING if binary else L2)
    spread = int(random.choice([30, 200, 10_000]))
    tables = [news, directory.partition(news, "x", table_id="x"), directory.partition(news, "empty", table_id="empty")]
    for number in range(int(random.integers(4, 9))):
        rows = int(random.choice([0, 1, 2, 17, 40]))
        ids = _random_ids(random, rows, spread, number, sorted_segments=seed % 3 == 0)
        deleted = random.permutation(rows)[: rows // 5].tolist() if random.random() < 0.5 else None
        table = tables[int(random.integers(0, 2))]
        directory.segment(table, ids, _vectors(random, rows, table), deleted=deleted, segment_id=str(number))
    if seed % 2:
        _write_log(random, directory, news, spread)
    return directory.write()


def _random_ids(
    random: np.random.Generator, rows: int, spread: int, number: int, *, sorted_segments: bool
) -> list[int]:
    """Ids all over the place, or those of a segment close together."""
    first = number * 20 if sorted_segments else -spread // 2
    ids = random.integers(first, first + spread, rows)
    if rows and random.random() < 0.03:
        ids[random.integers(0, rows)] = UNREADABLE_ID
    return [int(row_id) for row_id in ids]


def _vectors(random: np.random.Generator, rows: int, table: Table) -> np.ndarray:
    """Few different vectors, so that some duplicates are equal; some hold NaN."""
    if table.is_binary:
        return random.integers(0, 2, (rows, 2)).astype(np.uint8)
    vectors = random.integers(0, 2, (rows, 2)).astype(np.float32)
    vectors[random.random(rows) < random.choice([0, 0.1])] = np.nan
    return vectors


def _write_log(random: np.random.Generator, directory: Milvus1xDirectory, news: Table, spread: int) -> None:
    log = Log(directory.log_folder)
    for tag in ("", "x"):
        ids = [int(row_id) for row_id in random.integers(-spread, spread, 20)]
        log.insert(COLLECTION, tag, ids, _vectors(random, len(ids), news))
        log.add(DELETE, COLLECTION, tag, tuple(ids[:3]))
        log.next_file()
    log.write()
