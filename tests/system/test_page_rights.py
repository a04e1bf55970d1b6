"""Who may read the Migration page of a real API server, with users who log in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.airflow_home import airflow_env
from tests.support.airflow_standalone import StandaloneAirflow, standalone_airflow

RUN = "milvusdm/dags/milvusdm_m2m/runs/manual__1"
ADDRESSES = [f"{RUN}/", f"{RUN}/migration", *(f"{RUN}/report.{form}" for form in ("html", "csv", "json"))]
STATIC = [f"milvusdm/static/{name}" for name in ("page.js", "page.css")]
PASSWORDS = {"viewer": "seen", "stranger": "unseen"}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, airflow_database: Path) -> Iterator[StandaloneAirflow]:
    folder = tmp_path_factory.mktemp("page-rights")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    env = airflow_env(folder / "airflow", folder / "dags", airflow_database) | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer,stranger:",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    with standalone_airflow(env, ("api-server",)) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def client(airflow: StandaloneAirflow) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=airflow.url, timeout=60, trust_env=False) as client:
        yield client


def log_in(client: httpx.Client, user: str) -> dict[str, str]:
    """The headers of a user's requests."""
    login = {"username": user, "password": PASSWORDS[user]}
    token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("address", [*ADDRESSES, *STATIC])
def test_without_a_login_there_is_nothing_to_read(client: httpx.Client, address: str) -> None:
    assert client.get(address).status_code == 401
    assert client.get(address, headers={"Authorization": "Bearer garbage"}).status_code == 403


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_user_without_a_role_is_refused(client: httpx.Client, address: str) -> None:
    assert client.get(address, headers=log_in(client, "stranger")).status_code == 403


def test_a_viewer_reads_the_page_and_hears_of_a_run_that_does_not_exist(client: httpx.Client) -> None:
    viewer = log_in(client, "viewer")
    assert "<title>Migration</title>" in client.get(f"{RUN}/", headers=viewer).raise_for_status().text
    for address in ADDRESSES[1:]:
        assert client.get(address, headers=viewer).status_code == 404
    for address in STATIC:
        client.get(address, headers=viewer).raise_for_status()
