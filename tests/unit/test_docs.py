"""The pages of README and docs name the params that there are, and the defaults that they have."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from airflow_provider_milvusdm.config.jobs import F2M, H2M, JOBS, M2H, M2M, ScheduleParams
from airflow_provider_milvusdm.config.params import MilvusParams, ToOneCollection
from airflow_provider_milvusdm.config.validation import Params
from airflow_provider_milvusdm.config.yaml_file import read_yaml
from tests.support.repository import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(set(DOCS.glob("*.md")) - {DOCS / "performance.md"})
GUARANTEES = DOCS / "guarantees.md"
FILES = set(ToOneCollection.model_fields) - set(MilvusParams.model_fields)


def table(path: Path) -> dict[str, str]:
    """Name and default of each param in the page's table of them."""
    text = path.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| ([^|]*)\|", text, re.MULTILINE)
    found: dict[str, str] = {}
    for names, default in rows:
        several = re.findall(r"`([a-z_]+)`", names)
        defaults = (
            default.strip().split(", ") if len(several) > 1 and default.strip() else [default.strip()] * len(several)
        )
        found |= dict(zip(several, defaults, strict=True))
    return found


def default_of(model: type[Params], name: str) -> str:
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


@pytest.mark.parametrize(
    ("page", "model", "names"),
    [
        (ROOT / "README.md", M2M, set(M2M.model_fields)),
        (DOCS / "h2m.md", H2M, FILES | set(H2M.model_fields) - set(ToOneCollection.model_fields)),
        (DOCS / "f2m.md", F2M, FILES | set(F2M.model_fields) - set(ToOneCollection.model_fields)),
        (DOCS / "m2h.md", M2H, set(M2H.model_fields)),
    ],
    ids=["README", "h2m", "f2m", "m2h"],
)
def test_a_table_of_params_has_all_of_them_with_their_defaults(
    page: Path, model: type[Params], names: set[str]
) -> None:
    assert table(page) == {name: default_of(model, name) for name in names}


def test_the_table_of_schedules_has_all_keys() -> None:
    assert set(table(DOCS / "yaml-dags.md")) == set(ScheduleParams.model_fields)


def yaml_blocks(path: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if page != GUARANTEES], ids=lambda path: path.stem)
def test_each_printed_yaml_is_a_job(page: Path, tmp_path: Path) -> None:
    [text] = yaml_blocks(page)
    (tmp_path / "job.yaml").write_text(text)
    [job] = read_yaml(tmp_path / "job.yaml")
    assert page.stem in (job.kind.lower(), "yaml-dags", "bulk-import")
    assert yaml.safe_load(text).keys() <= JOBS.keys()


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", *PAGES]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_guarantee_is_guarded_by_tests_that_are_there() -> None:
    _, *chapters = GUARANTEES.read_text(encoding="utf-8").split("\n## ")
    assert [chapter[0] for chapter in chapters] == list("1234567")
    for chapter in chapters:
        named = re.findall(r"^\* `([^`]+)::([^`]+)`$", chapter, re.MULTILINE)
        assert named
        assert len(named) == chapter.count("\n* "), chapter
        assert [f"{file}::{test}" for file, test in named if test not in names_of_tests(file)] == []
