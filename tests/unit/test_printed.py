"""The code that README and docs print: each block is run by a test, those that take no server here."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.sdk import DAG

import bench.__main__
from airflow_provider_milvusdm import manifests, report
from airflow_provider_milvusdm.cli import command
from airflow_provider_milvusdm.get_provider_info import get_provider_info
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.model import units
from airflow_provider_milvusdm.yaml_dags import make_dags, refuse_broken_files
from tests.support.printed import NEEDS, PAGES, RUN_BY, Block, list_blocks, list_exports, read_blocks
from tests.support.repository import ROOT

SHELL = [(page.stem, block) for page in PAGES for block in list_blocks(page) if block.language == "sh"]


def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_block_is_run_by_a_test_that_is_there() -> None:
    """A new block needs its line in the table, and a test."""
    runnable = {page.stem: [block for block in list_blocks(page) if not block.needs] for page in PAGES}
    assert {page: len(blocks) for page, blocks in runnable.items() if blocks} == {
        page: len(tests) for page, tests in RUN_BY.items()
    }
    for test in {test for tests in RUN_BY.values() for test in tests}:
        file, name = test.split("::")
        assert name in names_of_tests(file), test


def test_only_what_needs_docker_or_kubernetes_is_not_run() -> None:
    assert {block.needs for page in PAGES for block in list_blocks(page) if block.needs} <= set(NEEDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_code_is_in_blocks_that_name_their_language(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^ *```\w+\n.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "```" not in outside
    assert re.findall(r"\n\n {4,}\S.*", outside) == []


@pytest.mark.parametrize(("page", "block"), SHELL)
def test_each_shell_block_is_valid(page: str, block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, capture_output=True)


def test_each_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    blocks = {words[1] for _, block in SHELL for words in block.commands if words[0] == "make"}
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = blocks | {target for text in texts for target in re.findall(r"`make ([\w.-]+)", text)}
    assert "demo" in named
    assert named - targets == set()


def test_each_part_that_is_measured_alone_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    [arguments] = [words[3:] for words in read_blocks("performance")[0].commands if words[1:3] == ["-m", "bench"]]
    ran: list[str] = []
    parts = {name: lambda stage, name=name: iter(ran.append(name) or ()) for name in bench.__main__.PARTS}
    monkeypatch.setattr(bench.__main__, "PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    assert bench.__main__.main() == 0
    assert ran == arguments[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_each_command_in_a_sentence_is_one_that_milvusdm_has(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = [line.split() for line in re.findall(r"`milvusdm ([^`]+)`", text)]
    help_text = command._parser().format_help()
    for line in lines:
        if len(line) == 1:  # named there, without its arguments
            assert line[0] in help_text
        else:
            command._parser().parse_args(line)


def test_the_commands_after_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel itself is installed by tests/system/test_wheel.py."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    install, dags = read_blocks("README")[1].commands
    assert install == ["pip", "install", project["name"]]
    extras = re.findall(r"`\[(\w+)\]`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(extras) == set(project["optional-dependencies"])
    assert dags[:2] == ["milvusdm", "dags"]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AIRFLOW_HOME")
    assert expanded(dags[2]) == f"{tmp_path}/airflow/dags"
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert command.main([*dags[1:2], expanded(dags[2])]) == 0
    assert (tmp_path / "dags" / "milvusdm_m2m.py").exists()


def expanded(word: str) -> str:
    """As a shell reads it."""
    return subprocess.run(["bash", "-c", f'echo "{word}"'], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page in ("README", "how-it-runs") for block in read_blocks(page) if block.language == "python"],
)
def test_each_dag_file_is_one(page: str, block: Block) -> None:
    names: dict[str, object] = {}
    exec(block.text, names)  # noqa: S102 - it is what the page tells its readers to run
    if "dag" in names:
        assert isinstance(names["dag"], DAG)
        assert "source_milvus_path" in names["dag"].params


def test_each_excerpt_is_in_the_file_it_is_taken_from() -> None:
    """The lines of an excerpt are in the file that is linked before it, in the same order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    parts = re.split(r"```python\n(.*?)```\n", text, flags=re.DOTALL)
    excerpts = list(zip(parts[0::2], parts[1::2], strict=False))
    assert len(excerpts) == 3
    for before, excerpt in excerpts:
        file = re.findall(r"\]\(([\w/]+\.py)\)", before)[-1]
        lines = iter(line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
        missing = [line for line in textwrap.dedent(excerpt).splitlines() if line.strip() not in lines]
        assert missing == [], file


@pytest.mark.parametrize(("name", "value"), list_exports("connection") + list_exports("bulk-import"))
def test_each_connection_is_one_that_the_hook_takes(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    fields = json.loads(value)
    if fields["conn_type"] == "milvus":
        address = fields.get("extra", {}).get("uri") or f"http://{fields['host']}:{fields.get('port', 19530)}"
        assert MilvusHook(name.removeprefix("AIRFLOW_CONN_").lower()).client_arguments()["uri"] == address
    else:
        assert (name, fields["conn_type"]) == ("AIRFLOW_CONN_MINIO", "aws")


def test_the_picture_names_the_tasks_of_the_dag() -> None:
    tasks = re.findall(r"\b(?:[a-z]+_[a-z]+|plan|units|report)\b", read_blocks("how-it-runs")[0].text)
    assert set(tasks) == set(migration_dag("printed").task_ids)


def test_the_picture_names_what_tasks_pass_on() -> None:
    names = re.findall(r"[A-Z]\w+", read_blocks("architecture")[0].text)
    known = {*vars(manifests), *vars(report), *vars(units)}
    assert len(names) == 7
    assert [name for name in names if name not in known] == []


def test_the_setting_of_the_folder_is_an_option_of_the_package() -> None:
    setting = configparser.ConfigParser()
    setting.read_string(read_blocks("yaml-dags")[0].text)
    options = get_provider_info()["config"]
    assert [(section, option) for section in setting.sections() for option in setting[section]] == [
        ("milvusdm", "config_dir")
    ]
    assert "config_dir" in options["milvusdm"]["options"]


def test_the_yaml_of_a_team_is_a_scheduled_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUSDM_CONFIG_DIR", str(tmp_path))
    (tmp_path / "embeddings.yaml").write_text(read_blocks("yaml-dags")[1].text)
    refuse_broken_files()
    dag = make_dags()["embeddings"]
    assert dag.params["data_dir"] == "/data/embeddings"
    assert dag.params["milvus_conn_id"] == "milvus_production"
    assert dag.start_date == datetime(2026, 1, 31, tzinfo=UTC)
    assert {task.owner for task in dag.tasks} == {"search team"}
    assert {task.retries for task in dag.tasks if task.task_id != "report"} == {5}
