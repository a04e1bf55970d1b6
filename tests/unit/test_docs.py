"""What README, docs/ and the pages beside them say is true: params, defaults, YAML, links, files and tests."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from airflow_provider_milvusdm.config.jobs import JOBS, M2M, ScheduleParams
from airflow_provider_milvusdm.config.validation import Params, read_params
from airflow_provider_milvusdm.config.yaml_file import read_yaml
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.targets.names import target_names
from dev.troubleshooting import to_page
from tests.support.markdown import anchors, links, printed_yaml, tables
from tests.support.printed import read_blocks
from tests.support.repository import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path for folder in (ROOT, DOCS) for path in folder.glob("*.md"))
GUARANTEES = DOCS / "guarantees.md"
ARCHITECTURE = DOCS / "architecture.md"


def names_and_defaults(names: str, default: str) -> list[tuple[str, str]]:
    """Name and default of each param of a row, which may have several names, with one default for all or one each."""
    listed = re.findall(r"`([a-z_]+)`", names)
    defaults = default.split(", ") if len(listed) > 1 and default else [default] * len(listed)
    return list(zip(listed, defaults, strict=True))


def printed_default(model: type[Params], name: str) -> str:
    """As the tables print it."""
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    default = field.default
    if default is None:
        return ""
    if isinstance(default, Params):
        return "`{}`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def test_the_tables_of_params_have_all_of_each_job_with_their_defaults() -> None:
    printed = [
        (job, name, default)
        for names, jobs, defaults, _ in tables(DOCS / "parameters.md", "parameter")
        for name, default in names_and_defaults(names, defaults)
        for job in jobs.split(", ")
    ]
    params = [(job, name, printed_default(model, name)) for job, model in JOBS.items() for name in model.model_fields]
    assert sorted(printed) == sorted(params)


def test_the_table_of_schedules_has_all_keys() -> None:
    keys = [name for names, *_ in tables(DOCS / "yaml-dags.md", "key") for name in re.findall(r"`([a-z_]+)`", names)]
    assert sorted(keys) == sorted(ScheduleParams.model_fields)


@pytest.mark.parametrize("page", [page for page in PAGES if printed_yaml(page)], ids=lambda path: path.stem)
def test_each_printed_yaml_is_a_job_or_params_of_one(page: Path, tmp_path: Path) -> None:
    for text in printed_yaml(page):
        if text.startswith(" "):
            read_params(M2M, {"source_milvus_path": "milvus"} | yaml.safe_load(text))
        else:
            (tmp_path / "job.yaml").write_text(text)
            assert len(read_yaml(tmp_path / "job.yaml")) == 1


@pytest.mark.parametrize("kind", JOBS)
def test_the_page_of_a_job_begins_with_its_yaml(kind: str) -> None:
    text, *_ = printed_yaml(DOCS / f"{kind.lower()}.md")
    assert list(yaml.safe_load(text)) == [kind]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_relative_links_and_anchors_lead_somewhere(page: Path) -> None:
    dead = []
    for path, anchor in links(page):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(f"{path}#{anchor}")
    assert dead == []


def test_readme_links_to_each_page() -> None:
    linked = {(ROOT / path).resolve() for path, _ in links(ROOT / "README.md")}
    assert [page.name for page in PAGES if page != ROOT / "README.md" and page not in linked] == []


def test_each_file_that_architecture_names_is_there() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+(?:\.(?:py|md|toml)|/))`", text))
    assert len(named) > 20
    places = (ROOT, ROOT / "airflow_provider_milvusdm")
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_architecture_prints_the_layers_that_are_guarded() -> None:
    """The picture's lines are those of the contract, in its order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [package] = [contract for contract in project["tool"]["importlinter"]["contracts"] if contract["id"] == "package"]
    rooms = [sorted(layer.split(" | ")) for layer in package["layers"]]
    _, picture = read_blocks("architecture")
    lines = [line[: line.index("  ")] for line in picture.text.splitlines() if "  " in line]
    assert [sorted(line.split(" | ")) for line in lines] == rooms


def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_guarantee_is_guarded_by_tests_that_are_there() -> None:
    _, *chapters = GUARANTEES.read_text(encoding="utf-8").split("\n## ")
    assert [chapter[0] for chapter in chapters] == list("1234567")
    for chapter in chapters:
        _, tests = chapter.split("\n*Tests:*\n")
        named = re.findall(r"^\* `([^`]+)::([^`]+)`$", tests, re.MULTILINE)
        assert named
        assert len(named) == tests.count("\n* "), chapter
        assert [f"{file}::{test}" for file, test in named if test not in names_of_tests(file)] == []


def test_troubleshooting_lists_a_message_as_it_is_raised_with_its_cure() -> None:
    with pytest.raises(ConfigurationError) as raised:
        target_names(["a-b", "a_b"], {}, "collection", "")
    _, listed = to_page().replace("\\_", "_").split("## ConfigurationError")[1].split("*   **Two …s would get")
    what, expected, cure = listed.partition("\n*")[0].replace("*", "").split("\n\n")
    assert what == " the same name in the target: … and …"
    for text in (expected, cure):
        assert re.search(re.escape(text.strip(" .")).replace("…", ".*"), str(raised.value)), text
