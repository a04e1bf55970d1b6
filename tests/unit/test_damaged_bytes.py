"""Whatever the bytes of a source are, reading them ends well or with an error of this package."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.manifest import to_json
from airflow_provider_milvusdm.sources.resolve import resolve_group
from tests.milvus1x_directory import Milvus1xDirectory
from tests.milvus1x_rows import BACKUP, HAMMING, INDEX
from tests.tree_checksum import tree_checksum
from tests.unit.reading import inspect, read_rows


@cache
def whole(*, leave_in_wal: bool) -> Mapping[str, bytes]:
    """The files of a small directory in good order, by their names in it."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Milvus1xDirectory(Path(folder) / "milvus")
        news = directory.collection("news", dimension=4, engine=2, index_params='{"nlist":16}')
        faces = directory.collection("faces", dimension=16, metric=HAMMING)
        vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
        directory.segment(news, [1, -2, 2**62], vectors, deleted=[2, 0], segment_id="7", file_types=[INDEX, BACKUP])
        directory.segment(directory.partition(news, "新闻"), [5], vectors[:1], segment_id="8")
        directory.segment(faces, [1, 2], [[1, 0], [0, 0]], segment_id="9")
        directory.write(leave_in_wal=leave_in_wal)
        (directory.path / "wal").mkdir()
        (directory.path / "wal" / "0.wal").write_bytes(struct.pack("<QBHHII4s", 25, 5, 4, 0, 0, 0, b"news"))
        (directory.path / "wal" / "mxlog.meta").write_bytes(struct.pack("<3Q", 0, 25, 25))
        paths = [path for path in sorted(directory.path.rglob("*")) if path.is_file() and path.name != "bloom_filter"]
        return {str(path.relative_to(directory.path)): path.read_bytes() for path in paths}


@dataclass(frozen=True)
class Damage:
    """`cut` bytes of a file from `position` on become `new`."""

    name: str
    position: int
    cut: int
    new: bytes


@st.composite
def damages(draw: st.DrawFn) -> tuple[bool, list[Damage]]:
    """Where the catalog stands, and one to three damages: bytes flipped, cut off, overwritten or put in between."""
    leave_in_wal = draw(st.booleans())
    found = []
    for _ in range(draw(st.integers(1, 3))):
        name, content = draw(st.sampled_from(sorted(whole(leave_in_wal=leave_in_wal).items())))
        written = [position for position, byte in enumerate(content) if byte] or [0]
        position = draw(st.sampled_from(written) | st.integers(0, len(content)))
        new = draw(st.binary(min_size=1, max_size=16))
        cut, new = draw(st.sampled_from([(1, new[:1]), (len(content), b""), (len(new), new), (0, new)]))
        found.append(Damage(name, position, cut, new))
    return leave_in_wal, found


def write(folder: Path, files: Mapping[str, bytes], found: Sequence[Damage] = ()) -> None:
    for name, content in files.items():
        for damage in found:
            if damage.name == name:
                content = content[: damage.position] + damage.new + content[damage.position + damage.cut :]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damages())
def test_damaged_bytes_give_an_error_of_this_package_or_none(damaged: tuple[bool, list[Damage]]) -> None:
    leave_in_wal, found = damaged
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        write(path, whole(leave_in_wal=leave_in_wal), found)
        before = tree_checksum(path)
        try:
            groups = inspect(path)
        except MilvusdmError as fault:
            event(f"refused at once: {type(fault).__name__}")
            groups = []
        for group in groups:
            try:
                to_json(group)
                read_rows(resolve_group(group).units)
            except MilvusdmError as fault:
                event(f"refused: {type(fault).__name__}")
            else:
                event("read")
        assert tree_checksum(path) == before


@pytest.mark.parametrize("leave_in_wal", [True, False])
def test_the_undamaged_directory_is_read(tmp_path: Path, leave_in_wal: bool) -> None:
    write(tmp_path, whole(leave_in_wal=leave_in_wal))
    rows = read_rows(unit for group in inspect(tmp_path) for unit in resolve_group(group).units)
    assert {where: [row_id for row_id, _ in found] for where, found in rows.items()} == {
        ("news", "_default"): [-2],
        ("news", "新闻"): [5],
        ("faces", "_default"): [1, 2],
    }
