"""Provider info, compared with Airflow's schema and with the code."""

from __future__ import annotations

import inspect
import json
import tomllib
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import BaseHook, Connection
from airflow.triggers.base import BaseTrigger

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.get_provider_info import get_provider_info
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.operators.base import MigrationOperator
from tests.support.repository import ROOT


@pytest.fixture
def connection_type() -> dict[str, Any]:
    [found] = get_provider_info()["connection-types"]
    return dict(found)


def test_it_fits_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_its_name_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert get_provider_info()["package-name"] == project["name"]
    [entry] = project["entry-points"]["apache_airflow_provider"].values()
    module, function = entry.split(":")
    assert getattr(import_module(module), function) is get_provider_info


BASES = (MigrationOperator, BaseHook, BaseTrigger)
KINDS = ("operators", "hooks", "triggers")


def test_every_module_with_an_operator_a_hook_or_a_trigger_is_listed() -> None:
    info = get_provider_info()
    named = {module for kind in KINDS for part in info[kind] for module in part["python-modules"]}
    paths = [path for kind in KINDS for path in (ROOT / "airflow_provider_milvusdm" / kind).glob("*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    assert named == {module for module in modules if has_public_classes(module)}


def has_public_classes(module: str) -> bool:
    classes = [found for _, found in inspect.getmembers(import_module(module), inspect.isclass)]
    own = [found for found in classes if found.__module__ == module and issubclass(found, BASES)]
    return bool(own) and not module.endswith(".base")


def test_the_connection_type_is_that_of_the_hook(connection_type: dict[str, Any]) -> None:
    module, name = connection_type["hook-class-name"].rsplit(".", 1)
    assert getattr(import_module(module), name) is MilvusHook
    assert connection_type["connection-type"] == MilvusHook.conn_type
    assert connection_type["hook-name"] == MilvusHook.hook_name


def test_each_field_of_the_form_has_a_label_and_a_type_that_may_be_left_empty(connection_type: dict[str, Any]) -> None:
    for name, field in connection_type["conn-fields"].items():
        assert field["label"], name
        assert "null" in field["schema"]["type"], name


def test_secrets_are_hidden_in_the_form(connection_type: dict[str, Any]) -> None:
    fields = connection_type["conn-fields"]
    assert {name for name, field in fields.items() if field["schema"].get("format") == "password"} == {"token"}


def test_each_field_of_the_form_has_an_effect(connection_type: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fields = connection_type["conn-fields"]

    def arguments(extra: dict[str, Any]) -> tuple[dict[str, Any], str, bool]:
        connection = {"conn_type": "milvus", "host": "milvus", "login": "root", "password": "Milvus", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps(connection))
        return MilvusHook().client_arguments(), MilvusHook().import_url, sends_its_login("elsewhere")

    def sends_its_login(host: str) -> bool:
        with suppress(ConfigurationError):
            return bool(MilvusHook(host=host).client_arguments()["password"])
        return False

    for name, field in fields.items():
        value = True if "boolean" in field["schema"]["type"] else "elsewhere"
        assert arguments({name: value}) != arguments({}), name
        assert arguments({name: None}) == arguments({}), name


def test_the_forms_own_fields_reach_the_client(
    connection_type: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = connection_type["ui-field-behaviour"]
    assert behaviour["relabeling"] == {"schema": "Database", "login": "User"}
    connection = Connection(
        conn_id="x", conn_type="milvus", host="db", port=1234, login="user", password="pass", schema="books"
    )
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", connection.get_uri())
    assert MilvusHook().client_arguments() == {
        "uri": "http://db:1234",
        "user": "user",
        "password": "pass",
        "db_name": "books",
    }
