"""docker-compose.yaml against the Compose specification, and what it must hold besides."""

import json
import os
import re
import stat
import subprocess
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from airflow.configuration import conf

from dev.sample_catalog import OUTPUT, to_sql
from tests.support.processes import as_user, unprivileged_user
from tests.support.repository import ROOT

COMPOSE = (ROOT / "docker-compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
PASSWORDS = re.findall(r"^([A-Z_]+)=$", EXAMPLE, re.MULTILINE)
READERS = ["airflow-api-server", "airflow-scheduler", "airflow-worker", "airflow-dag-processor", "airflow-triggerer"]
DOCUMENTED = {
    "attu": {"MILVUS_URL"},
    "etcd": {
        "ETCD_AUTO_COMPACTION_MODE",
        "ETCD_AUTO_COMPACTION_RETENTION",
        "ETCD_QUOTA_BACKEND_BYTES",
        "ETCD_SNAPSHOT_COUNT",
    },
    "minio": {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"},
    "mysql": {"MYSQL_DATABASE", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_RANDOM_ROOT_PASSWORD"},
    "postgres": {"POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"},
    "redis": {"REDISCLI_AUTH"},
}
"""Environment variables that the documentation of each image lists, or of the programs in it (etcd, redis-cli)."""
OWN = {"ADMIN_PASSWORD", "DUMB_INIT_SETSID"}
"""Of Airflow's image, besides its settings and connections: read by the command itself, and by the image's init."""


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
    assert len(images) == 9
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


def test_each_variable_is_in_the_example() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE))
    assert used == set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE))


def test_connections_are_airflows(compose: dict[str, Any]) -> None:
    services = compose["services"]
    environment = services["airflow-worker"]["environment"]
    milvus = json.loads(environment["AIRFLOW_CONN_MILVUS_DEFAULT"])
    mysql = json.loads(environment["AIRFLOW_CONN_MYSQL_DEFAULT"])
    assert mysql["password"] == services["mysql"]["environment"]["MYSQL_PASSWORD"]
    for connection in (milvus, mysql):
        assert connection["host"] in services


def test_bulk_imports_go_through_the_object_storage_of_milvus(compose: dict[str, Any]) -> None:
    services = compose["services"]
    environment = services["airflow-worker"]["environment"]
    url = urlsplit(json.loads(environment["AIRFLOW_CONN_MILVUS_DEFAULT"])["extra"]["import_url"])
    minio = json.loads(environment[f"AIRFLOW_CONN_{url.username.upper()}"])
    milvus = services["milvus"]["environment"]
    root = services["minio"]["environment"]
    assert (url.scheme, url.hostname) == ("s3", milvus["MINIO_BUCKET_NAME"])
    assert minio["extra"] == {"endpoint_url": f"http://{milvus['MINIO_ADDRESS']}"}
    logins = [
        (minio["login"], minio["password"]),
        (milvus["MINIO_ACCESS_KEY_ID"], milvus["MINIO_SECRET_ACCESS_KEY"]),
        (root["MINIO_ROOT_USER"], root["MINIO_ROOT_PASSWORD"]),
    ]
    assert len(set(logins)) == 1


def test_tasks_run_on_two_workers_through_redis(compose: dict[str, Any]) -> None:
    worker, redis = compose["services"]["airflow-worker"], compose["services"]["redis"]
    broker = urlsplit(worker["environment"]["AIRFLOW__CELERY__BROKER_URL"])
    assert worker["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert worker["scale"] == 2
    assert broker.hostname == "redis"
    assert ["--requirepass", broker.password] == redis["command"][1:]
    assert redis["environment"] == {"REDISCLI_AUTH": broker.password}


def test_no_more_tasks_are_queued_than_the_workers_have_slots(compose: dict[str, Any]) -> None:
    worker = compose["services"]["airflow-worker"]
    slots = worker["scale"] * int(worker["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    assert int(compose["services"]["airflow-scheduler"]["environment"]["AIRFLOW__CORE__PARALLELISM"]) == slots


def test_the_passwords_file_of_another_user_is_replaced(compose: dict[str, Any]) -> None:
    """AIRFLOW_UID may be changed; all users have the group that may write into the folder."""
    with TemporaryDirectory() as name:
        folder, file = Path(name), Path(name, "passwords.json")
        for program, script in (("airflow", "exit 0"), ("python", 'echo "new $ADMIN_PASSWORD"')):
            (folder / program).write_text(f"#!/bin/sh\n{script}\n")
            (folder / program).chmod(0o755)
        file.write_text("old")
        file.chmod(0o400)
        folder.chmod(0o777)
        environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "ADMIN_PASSWORD": "secret",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(file),
        }
        command = compose["services"]["airflow-init"]["command"]
        subprocess.run(command, cwd=folder, env=environment, check=True, **as_user(unprivileged_user()))
        assert file.read_text() == "new secret\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_settings_of_airflow_are_options_that_it_has(compose: dict[str, Any]) -> None:
    names = {name for service in compose["services"].values() for name in service["environment"] if "AIRFLOW__" in name}
    settings = [tuple(part.lower() for part in name.split("__")[1:]) for name in sorted(names)]
    assert len(settings) > 10
    known = conf.configuration_description
    assert [option for option in settings if option[1] not in known[option[0]]["options"]] == []


def test_other_variables_are_documented_ones(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name: set(services[name]["environment"]) for name in DOCUMENTED} == DOCUMENTED
    airflows = [service["environment"] for name, service in services.items() if name not in {*DOCUMENTED, "milvus"}]
    others = {name for environment in airflows for name in environment if not name.startswith("AIRFLOW_")}
    assert others == OWN


def test_each_service_that_stays_has_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    ends = {
        needed
        for service in services.values()
        for needed, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert ends == {name for name, service in services.items() if service["restart"] == "no"}
    assert {name for name, service in services.items() if "healthcheck" not in service} == ends


def test_mysql_begins_with_the_catalog_of_the_sample(compose: dict[str, Any]) -> None:
    assert OUTPUT.read_text() == to_sql()
    [mount] = mounts(compose["services"]["mysql"], "/docker-entrypoint-initdb.d/")
    assert mount == f"./{OUTPUT.relative_to(ROOT)}:/docker-entrypoint-initdb.d/{OUTPUT.name}:ro"


def test_services_wait_for_what_they_need(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}"


def test_volumes_are_declared(compose: dict[str, Any]) -> None:
    sources = [
        volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])
    ]
    assert {source for source in sources if not source.startswith("./")} == set(compose["volumes"])


def test_ports_are_open_to_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
