"""Names of the segments of a Milvus 1.x source; they are written and parsed here only.

``<table_id>/<segment_id>`` is a folder below the tables folder (``db/tables``). ``wal/<file number>/<tag>`` is in the
server's log: the rows that one file of the log inserts into one partition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FOLDER_PART = re.compile(r"[!-.0-~]{1,250}")
"""Printable ASCII without a slash: a 1.x server makes these names of digits and of collections' names."""
LOG_NAME = re.compile(r"wal/([0-9]+)/(.*)", re.DOTALL)
TIME = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, order=True)
class SegmentFolder:
    """A segment that is a folder."""

    table_id: str
    segment_id: str

    def __str__(self) -> str:
        return f"{self.table_id}/{self.segment_id}"

    @property
    def is_valid(self) -> bool:
        """Whether a 1.x server can have made this name; a damaged catalog can hold any other."""
        return all(map(FOLDER_PART.fullmatch, (self.table_id, self.segment_id)))

    @property
    def begun(self) -> int | None:
        """When the server began the segment, in nanoseconds since 1970; None for a name that no server makes.

        Source: the server's code, ``SafeIDGenerator`` in ``core/src/db/IDGenerator.cpp``.
        """
        return int(self.segment_id) if TIME.fullmatch(self.segment_id) else None


@dataclass(frozen=True)
class LogSegmentName:
    """A segment that is in one file of the log."""

    file_number: int
    tag: str

    def __str__(self) -> str:
        return f"wal/{self.file_number}/{self.tag}"


def parse_segment_name(text: str) -> SegmentFolder | LogSegmentName:
    """The name that ``str`` wrote. A text without a slash becomes a folder that is not valid."""
    if match := LOG_NAME.fullmatch(text):
        return LogSegmentName(int(match[1]), match[2])
    table_id, _, segment_id = text.partition("/")
    return SegmentFolder(table_id, segment_id)
