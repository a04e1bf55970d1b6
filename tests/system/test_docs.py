"""What README and docs/ print, run as printed in a folder that has what they name."""

from __future__ import annotations

import re

import numpy as np

from tests.support.collections_2x import stored
from tests.support.directories import random_vectors, write_directory
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import write_hdf5
from tests.support.printed import read_blocks
from tests.support.targets import milvus_client
from tests.support.terminal import Terminal

PROGRESS = re.compile(r"\d+ %")
"""A line that appears only while a task takes long."""


def printed(page: str) -> str:
    """Its first YAML."""
    return next(block.text for block in read_blocks(page) if block.language == "yaml")


def run(terminal: Terminal, page: str, *replacements: tuple[str, str]) -> dict[str, str]:
    """Statuses by collection, of a run that went well, with replacements for what this machine does not have."""
    text = printed(page)
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    (terminal.folder / f"{page}.yaml").write_text(text)
    ended = terminal.milvusdm("--yaml", f"{page}.yaml")
    assert ended.returncode == 0, ended
    return ended.statuses


def as_shown(output: str) -> list[str]:
    """The words of its lines, without what differs from run to run: numbers, order, widths of columns, progress."""
    lines = [line for line in output.splitlines() if not PROGRESS.search(line)]
    words = [re.sub(r"[\d.,]+", "0", re.sub(r"[─━═┃│┏┓┗┛┡┩└┘┳┴╇ ]+", " ", line)).strip() for line in lines]
    return sorted(line for line in words if line)


def test_milvus_1x_to_a_target_and_to_hdf5(terminal: Terminal) -> None:
    """The session, which runs the YAML of M2M; then the YAML of M2H."""
    (terminal.folder / "M2M.yaml").write_text(printed("m2m"))
    [session] = read_blocks("terminal-session")
    _, *steps = re.split(r"^\$ milvusdm (.*)\n", session.text, flags=re.MULTILINE)
    for line, recorded in zip(steps[0::2], steps[1::2], strict=True):
        ended = terminal.milvusdm(*line.split(), env={"COLUMNS": "120"})
        assert ended.returncode == 0, ended
        assert as_shown(ended.stdout) == as_shown(recorded), line
    assert ended.statuses == {"articles": "verified", "products": "verified"}
    assert (terminal.folder / "target.db").exists()
    assert run(terminal, "m2h")["articles"] == "verified"
    assert list((terminal.folder / "hdf5").glob("*/*/articles/*.h5"))


def test_the_yaml_of_readme(terminal: Terminal) -> None:
    tags = {"_default": range(50), "2021-03": range(50, 80), "2021-04": range(80, 100)}
    write_directory(terminal.folder / "milvus", {"articles": {"_default": range(100)}, "news": tags})
    target = ("dest_host: 127.0.0.1 ", "dest_uri: target.db "), ("  dest_port: 19530\n", "")
    statuses = run(terminal, "README", ("/data/milvus", "milvus"), *target)
    assert statuses == {"articles": "verified", "news": "verified"}
    with milvus_client(str(terminal.folder / "target.db")) as client:
        client.load_collection("news")
        assert {name: len(rows) for name, rows in stored(client, "news").items()} == {"_default": 50, "_2021_03": 30}


def test_hdf5_to_a_target(terminal: Terminal) -> None:
    write_hdf5(terminal.folder / "vectors.h5", {"embeddings": random_vectors(50, 1), "ids": np.arange(50)})
    assert run(terminal, "h2m")["articles"] == "verified"


def test_faiss_to_a_target(terminal: Terminal) -> None:
    write_index(terminal.folder / "faiss.index", make_index("IVF4,Flat", random_vectors(500, 1), np.arange(500)))
    assert run(terminal, "f2m")["images"] == "verified"
