"""What a release says of itself, in each place that says it; and what locks hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from airflow_provider_milvusdm import __version__
from tests.support.repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = [*ROOT.glob("*.lock"), *(ROOT / "dev").glob("*.lock")]


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(__version__)} - (not released yet|\d{{4}}-\d\d-\d\d)", headings[0])


def test_each_requirement_has_a_lower_bound() -> None:
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    assert [requirement for requirement in PROJECT["dependencies"] + extras if ">=" not in requirement] == []


def test_each_locked_python_is_one_of_the_matrix() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert f"for version in {' '.join(claimed)}; do" in (ROOT / "dev" / "test_matrix.sh").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_have_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    pinned = re.findall(r"^[\w.-]+==\S+.*?(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    assert pinned
    assert [entry for entry in pinned if "--hash=sha256:" not in entry] == []
    assert "://" not in text
