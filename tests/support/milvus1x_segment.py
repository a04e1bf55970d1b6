"""The folder of a Milvus 1.x segment, packed by hand for the builder of test directories."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from tests.support.milvus1x_rows import HOLDING_DATA, INDEX, Table, TableFile


@dataclass(frozen=True)
class Segment:
    """What a segment holds, and where its files stand once the directory is written."""

    table: Table
    segment_id: str
    folder: Path
    ids: tuple[int, ...]
    vectors: tuple[bytes, ...]
    deleted: tuple[int, ...]
    files: tuple[TableFile, ...]

    @property
    def rv(self) -> Path:
        return self._file(".rv")

    @property
    def uid(self) -> Path:
        return self._file(".uid")

    @property
    def deleted_docs(self) -> Path:
        return self.folder / "deleted_docs"

    @property
    def holds_data(self) -> bool:
        return any(file.file_type in HOLDING_DATA for file in self.files)

    @property
    def live_rows(self) -> list[tuple[int, bytes]]:
        deleted = set(self.deleted)
        rows = zip(self.ids, self.vectors, strict=True)
        return [row for offset, row in enumerate(rows) if offset not in deleted]

    def _file(self, suffix: str) -> Path:
        return self.folder / (PurePosixPath(self.segment_id).name + suffix)


@dataclass(frozen=True)
class Damage:
    """What headers claim against the truth, and a `tail` behind the bytes that they count."""

    rv_bytes: int | None = None
    uid_bytes: int | None = None
    deleted_docs_bytes: int | None = None
    tail: bytes = b""


def segment_files(segment: Segment, damage: Damage) -> dict[Path, bytes]:
    """The content of each file in the segment's folder."""
    ids, deleted = segment.ids, segment.deleted
    return {
        segment.rv: _counted(b"".join(segment.vectors), damage.rv_bytes) + damage.tail,
        segment.uid: _counted(struct.pack(f"<{len(ids)}q", *ids), damage.uid_bytes) + damage.tail,
        segment.deleted_docs: _counted(struct.pack(f"<{len(deleted)}i", *deleted), damage.deleted_docs_bytes)
        + damage.tail,
        segment.folder / "bloom_filter": bytes(16),
    } | {segment.folder / file.file_id: b"an index" for file in segment.files if file.file_type == INDEX}


def _counted(content: bytes, claimed_bytes: int | None) -> bytes:
    """The number of bytes that follow, as u64, and those."""
    return struct.pack("<Q", len(content) if claimed_bytes is None else claimed_bytes) + content


def pack_vectors(table: Table, vectors: np.ndarray | Sequence[Sequence[float]], rows: int) -> tuple[bytes, ...]:
    """Each vector's bytes: float32, or for a binary metric uint8 with eight dimensions a byte."""
    dtype, width = ("u1", table.dimension // 8) if table.is_binary else ("<f4", table.dimension)
    array = np.asarray(vectors, dtype=dtype, order="C").reshape(-1, width)
    if len(array) != rows:
        raise ValueError(f"{table.table_id}: {rows} ids, but {len(array)} vectors of {width} {dtype}")
    return tuple(vector.tobytes() for vector in array)
