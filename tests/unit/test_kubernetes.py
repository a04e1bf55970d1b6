"""k8s/values.yaml: what it names is what the image, the compose file and Airflow have.

It was checked once against values.schema.json and values.yaml of the Airflow chart 1.22.0, which are in no package.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from airflow.configuration import conf

from airflow_provider_milvusdm import __version__
from tests.support.repository import ROOT


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "k8s" / "values.yaml").read_text())
    return loaded


def test_it_runs_the_image_of_the_repository_in_its_version(values: dict[str, Any]) -> None:
    assert f"FROM apache/airflow:{values['airflowVersion']}-python" in (ROOT / "Dockerfile").read_text()
    assert values["images"]["airflow"]["tag"] == __version__


def test_its_settings_are_options_that_airflow_has(values: dict[str, Any]) -> None:
    known = conf.configuration_description
    settings = [(section, option) for section, options in values["config"].items() for option in options]
    assert settings
    assert [(section, option) for section, option in settings if option not in known[section]["options"]] == []


def list_files(page: str) -> list[tuple[str, str]]:
    """The files that the page prints, each with its text; a comment with the name is above it."""
    return re.findall(r"^# (\S+\.env)\n(.+?)\n(?:\n|```)", page, re.MULTILINE | re.DOTALL)


def test_it_holds_no_secret_and_the_page_makes_each_that_it_names(values: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    made = dict(re.findall(r"create secret generic (\S+) --from-(.*)$", page, re.MULTILINE))
    files = {f"env-file={name}": re.findall(r"^(\w+)=", text, re.MULTILINE) for name, text in list_files(page)}
    keys = {
        name: set(files.get(source) or re.findall(r"^file=(.+)=/dev/stdin$", source)) for name, source in made.items()
    }
    named: dict[str, set[str]] = {
        values["data"]["metadataSecretName"]: {"connection"},
        values["apiSecretKeySecretName"]: {"api-secret-key"},
        values["jwtSecretName"]: {"jwt-secret"},
    }
    for secret in values["secret"]:
        named.setdefault(secret["secretName"], set()).add(secret["secretKey"])
    assert keys == named
    assert not values["postgresql"]["enabled"]
    assert not values["createUserJob"]["enabled"]


def test_tasks_mount_the_source_read_only(values: dict[str, Any]) -> None:
    tasks = values["workers"]["kubernetes"]
    [mount], [volume] = tasks["extraVolumeMounts"], tasks["extraVolumes"]
    assert mount == {"name": volume["name"], "mountPath": "/milvus1x", "readOnly": True}
    assert volume["persistentVolumeClaim"]["readOnly"]
