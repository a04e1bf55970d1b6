"""Who may read the Migration page: nobody without a login, and of a DAG only whom Airflow's auth manager lets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api import security
from airflow.models.dag import DagModel
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from airflow_provider_milvusdm.ui.app import READ, create_app, get_stored_run

ROUTES = sorted(route.path for route in create_app().routes if isinstance(route, APIRoute))
OF_A_RUN = [path for path in ROUTES if "{dag_id}" in path]
FORBIDDEN_DAG = "salaries"
NO_MIGRATION = SimpleNamespace(
    dag_id="news", run_id="manual__1", state="success", started_by="scheduled", started="", ended="", tasks=list
)
"""A run without any task of this package."""


def path_of(route: str, dag_id: str = "news") -> str:
    return route.format(dag_id=dag_id, run_id="manual__1", name="page.js", form="csv")


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(DagModel, "get_team_name", lambda dag_id: None)
    return create_app()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


Allowed = Callable[[DagAccessEntity, str], bool]


@pytest.fixture
def log_in(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Callable[[Allowed], None]:
    """Log in a user who may read what a function allows, given the entity and the id of the DAG."""

    def log_in(allowed: Allowed) -> None:
        def is_authorized_dag(*, method: str, access_entity: DagAccessEntity, details: Any, user: Any) -> bool:
            return method == "GET" and allowed(access_entity, details.id)

        app.dependency_overrides[security.get_user] = lambda: SimpleNamespace(name="somebody")
        manager = SimpleNamespace(is_authorized_dag=is_authorized_dag)
        monkeypatch.setattr(security, "get_auth_manager", lambda: manager)

    return log_in


def test_the_routes_are_those_that_are_tested_here() -> None:
    assert {path.rpartition("/")[2] for path in OF_A_RUN} == {"", "migration", "report.{form}"}
    assert [path for path in ROUTES if path not in OF_A_RUN] == ["/static/{name}"]


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_login_every_route_answers_401(client: TestClient, route: str) -> None:
    assert client.get(path_of(route)).status_code == 401


@pytest.mark.parametrize("route", OF_A_RUN)
def test_without_rights_every_route_of_a_run_answers_403(
    client: TestClient, log_in: Callable[[Allowed], None], route: str
) -> None:
    log_in(lambda entity, dag_id: False)
    assert client.get(path_of(route)).status_code == 403


@pytest.mark.parametrize("missing", READ)
@pytest.mark.parametrize("route", OF_A_RUN)
def test_each_right_is_needed(
    client: TestClient, log_in: Callable[[Allowed], None], route: str, missing: DagAccessEntity
) -> None:
    log_in(lambda entity, dag_id: entity is not missing)
    assert client.get(path_of(route)).status_code == 403


@pytest.mark.parametrize("route", OF_A_RUN)
def test_a_dag_that_a_user_may_not_read_is_refused_and_the_others_are_not(
    app: FastAPI, client: TestClient, log_in: Callable[[Allowed], None], route: str
) -> None:
    log_in(lambda entity, dag_id: dag_id != FORBIDDEN_DAG)
    app.dependency_overrides[get_stored_run] = lambda: NO_MIGRATION
    assert client.get(path_of(route, FORBIDDEN_DAG)).status_code == 403
    assert client.get(path_of(route)).status_code == (404 if "report" in route else 200)


def test_a_dag_named_in_the_query_does_not_decide(client: TestClient, log_in: Callable[[Allowed], None]) -> None:
    log_in(lambda entity, dag_id: dag_id != FORBIDDEN_DAG)
    for route in OF_A_RUN:
        assert client.get(path_of(route, FORBIDDEN_DAG), params={"dag_id": "news"}).status_code == 403


def test_only_the_pages_own_files_are_served(client: TestClient, log_in: Callable[[Allowed], None]) -> None:
    log_in(lambda entity, dag_id: True)
    assert client.get("/static/page.js").status_code == 200
    for name in ("app.py", "..%2Fapp.py", "page.html.bak"):
        assert client.get(f"/static/{name}").status_code == 404


def test_the_page_runs_no_script_but_its_own(client: TestClient, log_in: Callable[[Allowed], None]) -> None:
    log_in(lambda entity, dag_id: True)
    page = client.get("/dags/news/runs/manual__1/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
