"""The routes behind the Migration page. Airflow's auth manager decides who may read what of a DAG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from airflow_provider_milvusdm.archive.forms import FORMS, write_record
from airflow_provider_milvusdm.ui.gather import gather, list_migrations
from airflow_provider_milvusdm.ui.page_data import LARGEST_PAGE, OPENED, PAGE, PageData, Wanted
from airflow_provider_milvusdm.ui.read_record import read_record
from airflow_provider_milvusdm.ui.stored_run import StoredRun, find_run

STATIC = Path(__file__).parent / "static"
STATIC_FILES = ("page.js", "page.css")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Only the page's own script and style are run, and they only ask this server."""
PRIVATE = {"Cache-Control": "no-store"}
ID_LENGTH = 110
"""Characters of the ids of the DAG and the run in the name of a file, which can have 255."""
READ = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
"""What the page shows of a DAG, so what its reader must be allowed to read."""

run_router = APIRouter(
    prefix="/dags/{dag_id}/runs/{run_id}", dependencies=[Depends(requires_access_dag("GET", entity)) for entity in READ]
)
static_router = APIRouter(prefix="/static", dependencies=[Depends(get_user)])


def create_app() -> FastAPI:
    """The application, which Airflow mounts in its API server."""
    app = FastAPI(title="MilvusDM", openapi_url=None)
    app.include_router(run_router)
    app.include_router(static_router)
    return app


@run_router.get("/")
def get_page() -> Response:
    return FileResponse(STATIC / "page.html", headers=HEADERS)


@static_router.get("/{name}")
def get_static_file(name: str) -> Response:
    if name not in STATIC_FILES:
        raise HTTPException(404)
    return FileResponse(STATIC / name, headers=HEADERS)


def get_stored_run(dag_id: str, run_id: str, session: SessionDep) -> StoredRun:
    """The run that the path names."""
    stored = find_run(session, dag_id, run_id)
    if stored is None:
        raise HTTPException(404, f"DAG {dag_id} has no run {run_id}")
    return stored


StoredRunDep = Annotated[StoredRun, Depends(get_stored_run)]
Group = Annotated[str | None, Query(max_length=250)]


@run_router.get("/migration")
def get_migration(
    stored: StoredRunDep,
    response: Response,
    group: Group = None,
    search: Annotated[str, Query(max_length=255)] = "",
    status: Annotated[str, Query(max_length=20)] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
    opened: Annotated[list[int], Query(alias="open", max_length=OPENED)] = [],  # noqa: B006 - FastAPI copies it
) -> dict[str, Any]:
    """What the page shows of the run. ``migration`` is null if the DAG migrates nothing."""
    response.headers.update(PRIVATE)
    tasks = stored.tasks()
    groups = list_migrations(tasks)
    shown = _choose(group, groups)
    answer = {
        "dag_id": stored.dag_id,
        "run_id": stored.run_id,
        "state": stored.state,
        "started_by": stored.started_by,
        "started": stored.started,
        "ended": stored.ended,
        "groups": groups,
        "group": shown,
    }
    if not groups:
        return answer | {"migration": None}
    data = PageData(gather(stored, tasks, shown), stored.state)
    return answer | {"migration": data.as_json(Wanted(search, status, offset, limit, tuple(opened)))}


@run_router.get("/report.{form}")
def get_report(stored: StoredRunDep, form: str, group: Group = None) -> StreamingResponse:
    """The report of the run as a file, for an archive."""
    if form not in FORMS:
        raise HTTPException(404, f"a report is {', '.join(FORMS)}, not {form}")
    tasks = stored.tasks()
    groups = list_migrations(tasks)
    if not groups:
        raise HTTPException(404, f"run {stored.run_id} of DAG {stored.dag_id} migrates nothing")
    record = read_record(stored, gather(stored, tasks, _choose(group, groups)))
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{stored.dag_id[:ID_LENGTH]}-{stored.run_id[:ID_LENGTH]}")
    headers = {"Content-Disposition": f'attachment; filename="milvusdm-{name}.{form}"'} | HEADERS | PRIVATE
    return StreamingResponse(write_record(record, form), media_type=FORMS[form].media_type, headers=headers)


def _choose(group: str | None, groups: Sequence[str]) -> str:
    """The task group that is asked for; the first one if there is no such group."""
    return group if group is not None and group in groups else next(iter(groups), "")
