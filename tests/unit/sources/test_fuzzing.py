"""The fuzzing of readers finds readers that fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fuzzing import MEMORY, outcome, unread


def fails(source: Path) -> None:
    raise KeyError(source.name)


def takes_memory(source: Path) -> None:
    bytes(range(256)) * (2 * MEMORY >> 8)


def writes(source: Path) -> None:
    (source / "b").touch()


def opens_another(source: Path) -> None:
    Path("/etc/passwd").read_bytes()


def connects_to_another(source: Path) -> None:
    sqlite3.connect("/etc/passwd").close()


@pytest.mark.parametrize("read", [fails, takes_memory, writes, opens_another, connects_to_another])
def test_a_reader_that_fails_is_found(read: Callable[[Path], None]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        outcome({"a": b"bytes"}, read)


def test_a_reader_that_opens_any_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    with pytest.raises(AssertionError, match="was read"), unread(tmp_path):
        (tmp_path / "a").read_bytes()
