"""The versions of Airflow's API that the command prepares."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_COUNT_ROUTES = """
import json
from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
from airflow_provider_milvusdm.cli.api_version import serve_newest_version_only

def count_routes():
    app = InProcessExecutionAPI().app
    app._cadwyn_initialize()
    return {version: len(router.routes) for version, router in app.router.versioned_routers.items()}

all_versions = count_routes()
serve_newest_version_only()
print(json.dumps([all_versions, count_routes()]))
"""


@pytest.mark.slow
def test_the_newest_version_alone_has_the_same_routes(tmp_path: Path) -> None:
    """If it has all versions, Airflow has changed: the command runs, but takes a third longer to start."""
    env = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    output = subprocess.run([sys.executable, "-c", _COUNT_ROUTES], env=env, stdout=subprocess.PIPE, check=True).stdout
    all_versions, newest = json.loads(output.splitlines()[-1])
    assert len(newest) == 1
    assert len(all_versions) > 1
    assert newest.items() <= all_versions.items()
