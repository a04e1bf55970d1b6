"""The YAML files that docs/ prints, run as printed in a folder that has what they name."""

from __future__ import annotations

import re

import numpy as np

from tests.support.directories import random_vectors
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import write_hdf5
from tests.support.repository import ROOT
from tests.support.terminal import Terminal

DOCS = ROOT / "docs"


def printed(page: str) -> str:
    [text] = re.findall(r"```yaml\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    return str(text)


def run(terminal: Terminal, page: str) -> dict[str, str]:
    """Statuses by collection, of a run that went well."""
    (terminal.folder / f"{page}.yaml").write_text(printed(page))
    ended = terminal.milvusdm("--yaml", f"{page}.yaml")
    assert ended.returncode == 0, ended
    return ended.statuses


def test_milvus_1x_to_a_target_and_to_hdf5(terminal: Terminal) -> None:
    assert terminal.milvusdm("sample", "milvus").returncode == 0
    assert run(terminal, "m2m") == {"articles": "verified", "products": "verified"}
    assert (terminal.folder / "target.db").exists()
    assert run(terminal, "m2h")["articles"] == "verified"
    assert list((terminal.folder / "hdf5").glob("*/*/articles/*.h5"))


def test_hdf5_to_a_target(terminal: Terminal) -> None:
    write_hdf5(terminal.folder / "vectors.h5", {"embeddings": random_vectors(50, 1), "ids": np.arange(50)})
    assert run(terminal, "h2m")["articles"] == "verified"


def test_faiss_to_a_target(terminal: Terminal) -> None:
    write_index(terminal.folder / "faiss.index", make_index("IVF4,Flat", random_vectors(500, 1), np.arange(500)))
    assert run(terminal, "f2m")["images"] == "verified"
