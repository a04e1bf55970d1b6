"""`make ui`: a local Airflow, from its start to Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from tests.support.repository import ROOT


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes with this Airflow home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def test_it_starts_beside_a_busy_port_and_an_empty_home_and_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    folder = tmp_path / "ui"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "XDG"))}
    env |= {"HOME": str(tmp_path / "home"), "MILVUSDM_UI_DIR": str(folder)}
    with socket.socket() as busy:
        with suppress(OSError):  # something else may listen there
            busy.bind(("127.0.0.1", 8080))
            busy.listen()
        command = [sys.executable, str(ROOT / "dev" / "ui.py")]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            shown = ""
            for line in process.stdout:
                shown += line
                if "Ctrl-C" in line:
                    break
            assert "Ctrl-C" in shown, shown
            url, password = (re.search(f"{name}: +(.+)", shown)[1] for name in ("Airflow", "Password"))  # type: ignore[index]
            assert not url.endswith(":8080")
            assert "Connection milvus_default: Milvus" in shown
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
                login = {"username": "admin", "password": password}
                token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
                client.headers["Authorization"] = f"Bearer {token}"
                dags = {dag["dag_id"] for dag in client.get("/api/v2/dags").raise_for_status().json()["dags"]}
                assert {"sample", "milvusdm_m2m", "milvusdm_m2h"} <= dags
                assert client.get("/api/v2/pools/milvus").raise_for_status().json()["slots"] == 4
                connection = client.get("/api/v2/connections/milvus_default").raise_for_status().json()
                assert connection["conn_type"] == "milvus"
                assert client.get("/api/v2/dags", headers={"Authorization": ""}).status_code == 401
            assert processes_of(folder) != []
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(120) == 0
    assert processes_of(folder) == []
