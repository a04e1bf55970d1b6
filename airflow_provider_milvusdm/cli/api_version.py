"""Airflow's API in this process has one version, the newest."""

from __future__ import annotations


def serve_newest_version_only() -> None:
    """Let Airflow's API in this process serve the version that its tasks use, and no earlier ones.

    Airflow generates the routes of all versions, which takes a third of the processor time of a short run. Call this
    before the API is created. Where Airflow keeps its versions in another way, nothing changes.
    """
    try:
        from airflow.api_fastapi.execution_api import versions
        from airflow.api_fastapi.execution_api.routes import execution_api_router
        from cadwyn import HeadVersion, Version, VersionBundle
        from cadwyn.route_generation import _DELETED_ROUTE_TAG

        newest = versions.bundle.versions[0].value
    except (ImportError, AttributeError, LookupError):
        return
    versions.bundle = VersionBundle(HeadVersion(), Version(newest))
    execution_api_router.routes[:] = [
        route for route in execution_api_router.routes if _DELETED_ROUTE_TAG not in getattr(route, "tags", ())
    ]
