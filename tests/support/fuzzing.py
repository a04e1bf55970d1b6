"""Damages to the bytes of a source, and what holds of a reader whatever it is given."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_milvusdm.exceptions import MilvusdmError
from tests.support.tree_checksum import tree_checksum

Files = Mapping[str, bytes]
"""By their names below the source's folder."""

SHORT, LONG = 500, 10_000
CASES = [pytest.param(SHORT, marks=pytest.mark.slow), pytest.param(LONG, marks=pytest.mark.long)]
MEMORY = 100 << 20
"""Above what the files of a source hold."""
MEMORY_DISK = Path("/dev/shm")
"""A case makes and removes a dozen files and folders, for which a disk takes longer than the reader that is tested."""
EXTREMES = [b"\xff" * 8, bytes(8), *(struct.pack("<q", number) for number in (2**60, 2**31 - 1, -1 << 63))]
MODULES = (".py", ".pyc")


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to three damages."""
    for _ in range(draw(st.integers(1, 3))):
        content = draw(_damage(content))
    return content


@st.composite
def _damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes flipped, overwritten, cut out, cut off, repeated or put in between."""
    start = draw(_position(content))
    stop = start + draw(st.integers(1, 16))
    before, these, after = content[:start], content[start:stop], content[stop:]
    new = draw(st.binary(min_size=1, max_size=16) | st.sampled_from(EXTREMES))
    flipped = bytes(byte ^ draw(st.integers(0, 255)) for byte in these)
    return draw(
        st.sampled_from(
            [
                before + flipped + after,
                before + new + content[start + len(new) :],
                before + after,
                before,
                before + these * draw(st.integers(2, 300)) + after,
                before + new + these + after,
            ]
        )
    )


@st.composite
def _position(draw: st.DrawFn, content: bytes) -> int:
    """Mostly where something other than zeros stands."""
    written = np.flatnonzero(np.frombuffer(content, np.uint8))
    if len(written) and draw(st.integers(0, 3)):
        return int(written[draw(st.integers(0, len(written) - 1))])
    return draw(st.integers(0, len(content)))


@st.composite
def damaged_files(draw: st.DrawFn, sources: list[Files], which: str = "") -> Files:
    """The files of one of the sources, one or two of them damaged, whose names begin with ``which``."""
    files = draw(st.sampled_from(sources))
    names = st.sampled_from(sorted(name for name in files if name.startswith(which)))
    return {**files, **{name: draw(damaged(files[name])) for name in draw(st.sets(names, min_size=1, max_size=2))}}


def fuzz(cases: int, sources: st.SearchStrategy[Files], whole: Files, read: Callable[[Path], object]) -> None:
    """Have so many damaged sources read: each ends well or with an error of this package.

    Reading takes little memory, opens nothing outside the source, and leaves it as it is. ``whole`` is one in good
    order. The short run is the same each time.
    """
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=cases,
        derandomize=cases == SHORT,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(sources)
    def check(files: Files) -> None:
        outcomes[outcome(files, read)] += 1

    with _temporary_files_in_memory():
        with _written(whole) as source:
            read(source)  # so that a case's memory is that of its bytes, and not of imports
        check()
    assert outcomes.total() >= cases
    assert len(outcomes) == 2, outcomes


@contextmanager
def _temporary_files_in_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if os.access(MEMORY_DISK, os.W_OK):
            patch.setattr(tempfile, "tempdir", str(MEMORY_DISK))
        yield


@contextmanager
def _written(files: Files) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="milvusdm-fuzzed-") as folder:
        write(Path(folder), files)
        yield Path(folder)


def write(folder: Path, files: Files) -> None:
    for below in {os.path.dirname(name) for name in files}:
        os.makedirs(folder / below, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def outcome(files: Files, read: Callable[[Path], object]) -> str:
    with _written(files) as source:
        before = tree_checksum(source)
        with _little_memory(MEMORY + sum(map(len, files.values()))), opens_only(source):
            ended = _read(source, read)
        assert tree_checksum(source) == before
        return ended


def _read(source: Path, read: Callable[[Path], object]) -> str:
    try:
        read(source)
    except MilvusdmError:
        return "refused"
    return "read"


@contextmanager
def _little_memory(most: int) -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _status("VmRSS")
    yield
    taken = _status("VmHWM") - before
    assert taken < most, f"{taken} bytes were taken"


def _status(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) << 10


class _Opened:
    """Paths that this thread opens, while there is a list to note them in: an audit hook stays for good."""

    def __init__(self) -> None:
        self.local = threading.local()
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        paths = getattr(self.local, "paths", None)
        if paths is not None and event in ("open", "sqlite3.connect") and not isinstance(arguments[0], int):
            paths.append(os.path.realpath(os.fsdecode(arguments[0])))


_opened = _Opened()


@contextmanager
def opens_only(source: Path) -> Iterator[None]:
    """Python opens no file in the block but below `source` and in the copy that SQLite's catalog is read from."""
    _opened.local.paths = paths = []
    try:
        yield
    finally:
        _opened.local.paths = None
    allowed = (f"{os.path.realpath(source)}/", f"{os.path.realpath(tempfile.gettempdir())}/milvus1x-catalog-")
    outside = [path for path in paths if not path.startswith(allowed) and not path.endswith(MODULES)]
    assert not outside, f"opened: {outside}"


@contextmanager
def unread(folder: Path) -> Iterator[None]:
    """Nobody reads a file of the folder in the block, C libraries included: the kernel tells."""
    reads: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, _: reads.append(number))
    watched = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.fcntl(watched, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT)
        yield
    finally:
        os.close(watched)
        signal.signal(signal.SIGIO, before)
    assert not reads, f"a file in {folder} was read"
