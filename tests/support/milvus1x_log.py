"""Writes the log of a Milvus 1.x server, its records packed by hand, apart from any reader in the package."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

INSERT_BINARY, INSERT_FLOAT, DELETE, UPDATE, FLUSH, ENTITY = range(1, 7)


class Log:
    """A log to be written, file by file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[int, bytes] = {0: b""}

    @property
    def last_lsn(self) -> int:
        """Of the last record."""
        return max(number << 32 | len(content) for number, content in self.files.items() if content or not number)

    def next_file(self, skip: int = 0) -> None:
        """What is added from now on goes to another file."""
        self.files[max(self.files) + 1 + skip] = b""

    def insert(self, name: str, tag: str, ids: Sequence[int], vectors: np.ndarray) -> int:
        kind = INSERT_BINARY if vectors.dtype == np.uint8 else INSERT_FLOAT
        return self.add(kind, name, tag, tuple(map(int, ids)), vectors.tobytes())

    def add(self, kind: int, name: str, tag: str = "", ids: tuple[int, ...] = (), data: bytes = b"") -> int:
        """The record's lsn."""
        number = max(self.files)
        body = name.encode() + tag.encode() + struct.pack(f"<{len(ids)}q", *ids) + data
        lsn = number << 32 | (len(self.files[number]) + 21 + len(body))
        head = struct.pack("<QBHHII", lsn, kind, len(name.encode()), len(tag.encode()), len(ids), len(data))
        self.files[number] += head + body
        return lsn

    def write(self, meta: tuple[int, int, int] | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, content in self.files.items():
            (self.folder / f"{number}.wal").write_bytes(content)
        self.folder.joinpath("mxlog.meta").write_bytes(struct.pack("<3Q", *(meta or (0, self.last_lsn, self.last_lsn))))
