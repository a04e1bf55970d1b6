"""docker-compose.yaml against the Compose specification, and what it must hold besides."""

import json
import re
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.repository import ROOT

COMPOSE = (ROOT / "docker-compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PASSWORDS = re.findall(r"^([A-Z_]+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
READERS = ["airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"]


def resolve(text: str, environment: dict[str, str]) -> str:
    """Replaces variables as Compose does: `${A}`, `${A:-default}`, `${A:?message}`; `$$` is a dollar."""

    def value(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        found = environment.get(match["name"], "")
        if not found and match["operator"] != ":-":
            raise KeyError(match["name"])
        return found or match["rest"]

    pattern = r"\$(?:\$|\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\})"
    return re.sub(pattern, value, text)


def load(**environment: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(
        resolve(COMPOSE, {name: f"{name}-value" for name in PASSWORDS} | environment)
    )
    return document


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return load()


def mounts(service: dict[str, Any], target: str) -> list[str]:
    return [volume for volume in service["volumes"] if f":{target}" in volume]


def test_fits_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
    assert [error.message for error in validator.iter_errors(compose)] == []
    broken = compose | {"services": {"milvus": {"imagee": "milvusdb/milvus"}}}
    assert not validator.is_valid(broken)


def test_images_are_pinned(compose: dict[str, Any]) -> None:
    images = {service["image"] for service in compose["services"].values()}
    images |= set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert len(images) == 5
    for image in images:
        name, _, tag = image.rpartition(":")
        assert name, image
        assert tag not in ("", "latest"), image
        assert "/" not in tag, image


def test_airflow_image_is_the_locked_airflow() -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    assert f"FROM apache/airflow:{locked[1]}-python" in DOCKERFILE


@pytest.mark.parametrize("reader", READERS)
def test_source_is_mounted_read_only(reader: str) -> None:
    assert mounts(load()["services"][reader], "/milvus1x") == ["sample:/milvus1x:ro"]
    own = load(MILVUS1X_PATH="/data/milvus")["services"]
    assert mounts(own[reader], "/milvus1x") == ["/data/milvus:/milvus1x:ro"]
    assert mounts(own["sample"], "/milvus1x") == ["sample:/milvus1x"]


@pytest.mark.parametrize("name", PASSWORDS)
def test_no_password_has_a_default(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        load(**{name: ""})


def test_connections_are_airflows(compose: dict[str, Any]) -> None:
    environment = compose["services"]["airflow-scheduler"]["environment"]
    milvus = json.loads(environment["AIRFLOW_CONN_MILVUS_DEFAULT"])
    mysql = json.loads(environment["AIRFLOW_CONN_MYSQL_DEFAULT"])
    assert milvus == {"conn_type": "milvus", "host": "milvus", "port": 19530}
    assert mysql["password"] == compose["services"]["mysql"]["environment"]["MYSQL_PASSWORD"]
    for connection in (milvus, mysql):
        assert connection["host"] in compose["services"]


def test_services_wait_for_what_they_need(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}"


def test_volumes_are_declared(compose: dict[str, Any]) -> None:
    used = {volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]}
    assert used == set(compose["volumes"])


def test_ports_are_open_to_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
