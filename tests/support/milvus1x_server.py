"""A Milvus 1.x server that is written to, merges and flushes, and is copied at any moment; all at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tests.support.directories import DIMENSION
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.milvus1x_rows import CLOCK, NEW

Rows: TypeAlias = dict[int, np.ndarray]
TAGS = ("_default", "a")


@dataclass
class LiveSegment:
    """A segment: in memory, or finished."""

    tag: str
    name: int
    rows: list[tuple[int, np.ndarray]] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    """Offsets."""

    def delete(self, ids: set[int]) -> None:
        self.deleted |= {offset for offset, (row_id, _) in enumerate(self.rows) if row_id in ids}

    @property
    def live(self) -> list[tuple[int, np.ndarray]]:
        return [row for offset, row in enumerate(self.rows) if offset not in self.deleted]


@dataclass(frozen=True)
class Copy:
    """A copy of its directory, and the vectors that are in it by partition and id."""

    path: Path
    rows: Mapping[str, Mapping[int, bytes]]


class LiveServer:
    """Collection `news` with partition `a`; the ids of each partition are its own."""

    def __init__(self, random: np.random.Generator, created_on: int = CLOCK) -> None:
        self.random, self.created_on, self.clock = random, created_on, created_on * 1000
        self.rows: dict[str, Rows] = {tag: {} for tag in TAGS}
        self.finished: list[LiveSegment] = []
        self.memory: dict[str, LiveSegment] = {}
        self.forgotten: set[int] = set()
        """Ids deleted since the last flush from what is finished."""
        self.log, self.flushed = Log(Path()), 0

    def work(self) -> None:
        """A few operations of an application and of the server."""
        kinds = [self.insert, self.insert, self.update, self.update, self.delete, self.flush, self.merge]
        for kind in self.random.choice(np.array(kinds, object), 6):
            kind()

    def insert(self) -> None:
        tag = str(self.random.choice(TAGS))
        ids = {1000 * TAGS.index(tag) + int(number) for number in self.random.integers(0, 300, 20)} - set(
            self.rows[tag]
        )
        self._insert(tag, sorted(ids))

    def update(self) -> None:
        """As applications of 1.x do: delete, then insert under the same id."""
        tag = str(self.random.choice(TAGS))
        ids = self._some(tag)
        self._delete(ids)
        self._insert(tag, ids)

    def delete(self) -> None:
        self._delete(self._some(str(self.random.choice(TAGS))))

    def flush(self) -> None:
        for segment in self.finished:
            segment.delete(self.forgotten)
        self.finished += [replaced(segment) for segment in self.memory.values() if segment.live]
        self.memory, self.forgotten, self.flushed = {}, set(), self.log.last_lsn

    def merge(self) -> None:
        """A merge, and of one segment a compaction."""
        tag = str(self.random.choice(TAGS))
        merged = [segment for segment in self.finished if segment.tag == tag][: self.random.integers(1, 4)]
        if merged:
            whole = LiveSegment(tag, self._now(), [row for segment in merged for row in segment.live])
            self.finished = [segment for segment in self.finished if segment not in merged] + [whole]

    def copy(self, path: Path) -> Copy:
        directory = Milvus1xDirectory(path)
        news = directory.collection("news", dimension=DIMENSION, flush_lsn=self.flushed, created_on=self.created_on)
        tables = {"_default": news, "a": directory.partition(news, "a", flush_lsn=self.flushed)}
        for segment in self.finished:
            ids, vectors = [row_id for row_id, _ in segment.rows], [vector for _, vector in segment.rows]
            deleted, name = sorted(segment.deleted), str(segment.name)
            directory.segment(tables[segment.tag], ids, np.array(vectors), deleted=deleted, segment_id=name)
        for tag, segment in self.memory.items():
            directory.segment(tables[tag], [], np.empty((0, DIMENSION)), file_types=[NEW], segment_id=str(segment.name))
        directory.write()
        self.log.folder = path / "wal"
        self.log.write()
        return Copy(
            path, {tag: {row_id: row.tobytes() for row_id, row in rows.items()} for tag, rows in self.rows.items()}
        )

    def _now(self) -> int:
        self.clock += int(self.random.integers(1, 10**9)) * 1000
        return self.clock

    def _some(self, tag: str) -> list[int]:
        ids = list(self.rows[tag])
        return sorted(map(int, self.random.choice(ids, min(len(ids), 5), replace=False))) if ids else []

    def _insert(self, tag: str, ids: list[int]) -> None:
        if not ids:
            return
        vectors = self.random.standard_normal((len(ids), DIMENSION), np.float32)
        segment = self.memory.setdefault(tag, LiveSegment(tag, self._now()))
        segment.rows += zip(ids, vectors, strict=True)
        self.rows[tag] |= dict(zip(ids, vectors, strict=True))
        self.log.insert("news", "" if tag == "_default" else tag, ids, vectors)

    def _delete(self, ids: list[int]) -> None:
        if not ids:
            return
        for segment in self.memory.values():
            segment.delete(set(ids))
        self.forgotten |= set(ids)
        for rows in self.rows.values():
            for row_id in ids:
                rows.pop(row_id, None)
        self.log.add(DELETE, "news", ids=tuple(ids))


def replaced(segment: LiveSegment) -> LiveSegment:
    """As a flush writes it: without what was deleted in memory."""
    return LiveSegment(segment.tag, segment.name, segment.live)
