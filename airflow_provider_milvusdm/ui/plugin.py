"""The plugin that adds the Migration page to Airflow's UI.

Every component of Airflow imports this module, so it imports nothing else of this package.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/milvusdm"


class LazyApp:
    """An ASGI application that is imported when it gets its first request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await _app()(scope, receive, send)


@cache
def _app() -> Callable[[Any, Any, Any], Awaitable[None]]:
    from airflow_provider_milvusdm.ui.app import create_app

    return create_app()


class MilvusdmPlugin(AirflowPlugin):
    """A tab on each run, in which the run's migration is shown."""

    name = "milvusdm"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "MilvusDM"}]  # noqa: RUF012 - as Airflow has it
    external_views = [  # noqa: RUF012
        {
            "name": "Migration",
            # Without a leading slash it is also right where Airflow's base URL has a path.
            "href": f"{PREFIX[1:]}/dags/{{DAG_ID}}/runs/{{RUN_ID}}/",
            "destination": "dag_run",
            "url_route": "migration",
        }
    ]
