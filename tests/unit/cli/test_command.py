"""The parts of the command `milvusdm` that need no target."""

from __future__ import annotations

import io
import shlex
import subprocess
from pathlib import Path

import pytest

from airflow_provider_milvusdm import __version__
from airflow_provider_milvusdm.cli.command import main
from tests.support.reading import catalog_of
from tests.support.repository import ROOT
from tests.support.terminal import MILVUSDM


def test_sample_writes_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tmp_path / "sample")]) == 0
    assert str(tmp_path / "sample") in capsys.readouterr().out
    assert catalog_of(tmp_path / "sample").names() == ["articles", "products"]
    assert main(["sample", str(tmp_path / "sample")]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_dags_copies_the_templates_and_keeps_a_changed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dags"
    for _ in range(2):
        assert main(["dags", str(folder)]) == 0
    templates = {path.name: path.read_text() for path in (ROOT / "dags").glob("*.py")}
    assert {path.name: path.read_text() for path in folder.glob("*.py")} == templates
    (folder / "milvusdm_m2m.py").write_text("# mine")
    assert main(["dags", str(folder)]) == 2
    assert "different DAG file of this name exists" in capsys.readouterr().err
    assert (folder / "milvusdm_m2m.py").read_text() == "# mine"


def test_without_a_terminal_nobody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "M2M.yaml"
    path.write_text("M2M: {source_milvus_path: /data/milvus, dest_host: milvus, approval: true}")
    for stdin in (io.StringIO("yes"), None):  # None: it was closed, as by `<&-` in a shell
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["--yaml", str(path)]) == 2
        assert "there is no terminal to ask on" in capsys.readouterr().err


def test_a_bad_yaml_file_is_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "M2M.yaml"
    assert main(["--yaml", str(path)]) == 2
    path.write_text("M2M:\n  mode: x\n")
    assert main(["--yaml", str(path)]) == 2
    error = capsys.readouterr().err
    assert "No such file" in error
    assert "- source_milvus_path: required" in error


def test_closed_outputs_end_it_with_the_usual_code_and_no_traceback(tmp_path: Path) -> None:
    """As by `>&-` in a shell."""
    job, log = tmp_path / "M2M.yaml", tmp_path / "no folder" / "log"
    job.write_text("M2M: {source_milvus_path: /data/milvus, dest_host: milvus}")
    command = shlex.join([*MILVUSDM, "--yaml", str(job), "--log", str(log)])
    for closed in (">&-", ">&- 2>&-", "<&- >&-"):
        ended = subprocess.run(["bash", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert ended.stderr == "" if "2>" in closed else "the log can't be written" in ended.stderr.lower()
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--version"], 0), (["--help"], 0), (["unknown"], 2)])
def test_usage(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == code
    if arguments == ["--version"]:
        assert capsys.readouterr().out.strip() == __version__
