"""`milvusdm inspect`: what a source holds, without Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.cli.command import main
from airflow_provider_milvusdm.cli.sample import write_sample
from tests.integration.sources.test_unflushed_log import expected_rows, write_directory_with_log
from tests.support.directories import random_vectors, write_directory
from tests.support.faiss_inputs import make_index, write_index
from tests.support.hdf5_inputs import write_hdf5
from tests.support.reading import resolve
from tests.support.rich_directory import write_rich_directory
from tests.support.tree_checksum import tree_checksum


@pytest.fixture
def inspected(capsys: pytest.CaptureFixture[str]) -> Any:
    """`milvusdm inspect PATH --json`: the exit code, and the collections by name."""

    def inspect(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
        code = main(["inspect", str(path), "--json", *options])
        return code, {found["name"]: found for found in json.loads(capsys.readouterr().out)["collections"]}

    return inspect


def rows(collection: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Live rows, deleted rows and rows that the log inserts, by partition."""
    return {part["name"]: (part["live"], part["deleted"], part["only_in_log"]) for part in collection["partitions"]}


def test_a_table_lists_partitions_with_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(tmp_path / "sample")
    before = tree_checksum(tmp_path / "sample")
    assert main(["inspect", str(tmp_path / "sample")]) == 0
    output = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if "│" in line]
    assert cells == [
        ["articles", "_default", "2,497", "3", "0", "659.2 kB", "64", "L2", "IVF_FLAT (nlist=128)"],
        ["", "2021-03 news", "399", "1", "0", "105.3 kB", "", "", ""],
        ["", "empty", "0", "0", "0", "0 B", "", "", ""],
        ["products", "_default", "599", "1", "0", "81.5 kB", "32", "IP", "FLAT"],
    ]
    assert "2 collections, 3,495 live rows, 846.0 kB" in output
    assert tree_checksum(tmp_path / "sample") == before


def test_the_numbers_are_those_that_resolving_finds(tmp_path: Path, inspected: Any) -> None:
    write_rich_directory(tmp_path / "milvus")
    code, collections = inspected(tmp_path / "milvus")
    assert code == 0
    assert {name: rows(found) for name, found in collections.items()} == {
        group.name: {part.tag: (part.live_rows, part.deleted_rows, 0) for part in group.partitions}
        for group in resolve(tmp_path / "milvus")
    }


def test_rows_that_are_only_in_the_log_are_counted(tmp_path: Path, inspected: Any) -> None:
    path = write_directory_with_log(tmp_path / "milvus").path
    code, collections = inspected(path)
    live = {name: len(found) for name, found in expected_rows().items()}
    assert code == 0
    assert rows(collections["news"]) == {
        "_default": (live["_default"], 125 - live["_default"], 25),
        "2021-03 news": (live["_2021_03_news"], 55 - live["_2021_03_news"], 5),
    }
    assert any("replayed from the 1.x server's log" in note for note in collections["news"]["notes"])


def test_a_fault_is_named_for_its_collection_and_the_others_are_listed(
    tmp_path: Path, inspected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_directory(tmp_path / "milvus", {"good": {"_default": range(5)}, "bad": {"_default": range(3)}})
    next((directory.tables_folder / "bad").rglob("*.rv")).write_bytes(b"short")
    code, collections = inspected(directory.path)
    assert code == 1
    assert rows(collections["good"]) == {"_default": (5, 0, 0)}
    [fault] = collections["bad"]["faults"]
    assert "too short" in fault
    assert collections["good"]["faults"] == []

    assert main(["inspect", str(directory.path)]) == 1
    assert "bad: FAULT: A segment's file is too short" in capsys.readouterr().out


def test_hdf5_files_one_by_one_or_of_a_folder(tmp_path: Path, inspected: Any) -> None:
    vectors = random_vectors(30, 1)
    write_hdf5(tmp_path / "a.h5", {"embeddings": vectors, "ids": np.arange(30)})
    write_hdf5(tmp_path / "b.hdf5", {"train": vectors}, attributes={"distance": "angular"})
    code, collections = inspected(tmp_path / "a.h5")
    assert (code, rows(collections["a"]), collections["a"]["dimension"]) == (0, {"_default": (30, 0, 0)}, 8)

    code, collections = inspected(tmp_path)
    assert code == 1
    assert rows(collections["a"]) == {"_default": (30, 0, 0)}
    assert "train" in collections["b"]["faults"][0]

    code, collections = inspected(tmp_path / "b.hdf5", "--embeddings", "train")
    assert (code, collections["b"]["metric"]) == (0, "COSINE")


def test_what_is_no_file_is_named_among_the_files_of_a_folder(tmp_path: Path, inspected: Any) -> None:
    write_hdf5(tmp_path / "a.h5", {"embeddings": random_vectors(3, 1)})
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "link.h5").symlink_to("nowhere")
    (tmp_path / os.fsdecode(b"\xff.h5")).write_bytes(b"")
    code, collections = inspected(tmp_path)
    assert (code, rows(collections["a"])) == (1, {"_default": (3, 0, 0)})
    assert "Expected a file, found something else" in collections["pipe"]["faults"][0]
    assert "Expected a file, found none" in collections["link"]["faults"][0]
    assert "is not UTF-8" in collections["\udcff"]["faults"][0]
    assert main(["inspect", str(tmp_path)]) == 1


def test_an_hdf5_file_is_known_by_its_content(tmp_path: Path, inspected: Any) -> None:
    path = write_hdf5(tmp_path / "vectors.bin", {"embeddings": random_vectors(3, 1)})
    assert rows(inspected(path)[1]["vectors"]) == {"_default": (3, 0, 0)}


def test_a_faiss_index_and_what_it_lost(tmp_path: Path, inspected: Any) -> None:
    exact = write_index(tmp_path / "exact.index", make_index("IVF4,Flat", random_vectors(200, 1)))
    code, collections = inspected(exact)
    assert (code, rows(collections["exact"])) == (0, {"_default": (200, 0, 0)})
    assert collections["exact"]["index"] == "IVF_FLAT"
    lossy = write_index(tmp_path / "lossy.index", make_index("SQ8", random_vectors(200, 1)))
    code, collections = inspected(lossy)
    assert code == 0
    assert any("reconstructed" in note for note in collections["lossy"]["notes"])
    (tmp_path / "text").write_text("neither of them")
    code, collections = inspected(tmp_path / "text")
    assert code == 1
    assert collections["text"]["faults"]


def test_what_is_no_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "missing")]) == 2
    assert "No such source" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == 2
    assert "No source in this folder" in capsys.readouterr().err
    (tmp_path / "db").mkdir()
    assert main(["inspect", str(tmp_path)]) == 2
    assert "milvusdm validate" in capsys.readouterr().err


def test_it_imports_no_airflow_and_no_pymilvus(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample")
    code = (
        "import sys\nfrom airflow_provider_milvusdm.cli.command import main\n"
        "main(['inspect', sys.argv[1]])\nassert not {'airflow', 'pymilvus', 'faiss'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "sample")], check=True, timeout=60)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("milvusdm ins", ["inspect"]), ("milvusdm inspect --j", ["--json"]), ("milvusdm val", ["validate"])],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: list[str], tmp_path: Path) -> None:
    """As the function does that `register-python-argcomplete` prints."""
    completions = tmp_path / "completions"
    env = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(completions),
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
        "COMP_TYPE": "9",
    }
    command = [sys.executable, "-c", "from airflow_provider_milvusdm.cli.command import main; main()"]
    subprocess.run(command, env=env, check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert completions.read_text().split() == offered


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "http://127.0.0.1:1/a.h5"])
def test_a_path_that_the_system_refuses_is_told_in_one_line(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", path]) == 2
    error = capsys.readouterr().err
    assert error.startswith("milvusdm: ")
    assert error.count("\n") == 1


def test_a_name_can_not_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hdf5(tmp_path / "\x1b[2J\u202e.h5", {"embeddings": random_vectors(3, 1)})
    assert main(["inspect", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert r"\x1b[2J\u202e" in output
    assert not {"\x1b", "\u202e"} & set(output)
