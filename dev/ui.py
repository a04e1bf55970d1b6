"""A local Airflow to try the package in its UI: DAG templates, a sample, a connection, a pool. Ctrl-C ends all of it.

Everything is in build/ui, and made anew at each start.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import psutil

ROOT = Path(__file__).parents[1]
HOME = Path(os.environ.get("MILVUSDM_UI_DIR") or ROOT / "build" / "ui")
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
PORT = 8080
"""The next one that is free is taken."""
START_SECONDS, GRACE_SECONDS = 300, 15
POOL = "milvus"
DAG = '''"""The sample, with defaults for all params: trigger it as it is."""

from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag(
    "sample",
    pool="{pool}",
    defaults={{"source_milvus_path": "{source}"}},
    dag_display_name="The sample into Milvus Lite",
)
'''


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts it in the background ignores SIGINT
        signal.signal(number, _interrupt)
    try:
        with ExitStack() as started:
            _run(started)
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(started: ExitStack) -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    (HOME / "dags").mkdir(parents=True)
    port, *log_ports = _free_ports()
    password = secrets.token_urlsafe(9)
    env = _environment(port, *log_ports)
    _prepare(env, password)
    logs = [HOME / f"{component}.log" for component in COMPONENTS]
    processes = [started.enter_context(_running(name, env, log)) for name, log in zip(COMPONENTS, logs, strict=True)]
    url = f"http://localhost:{port}"
    _wait(url, processes, logs)
    print(f"\nAirflow:    {url}\nLogin:      admin\nPassword:   {password}")
    print(f"Trigger:    DAG sample as it is, or milvusdm_m2m with the source {HOME / 'milvus'}")
    print(f"Target:     connection milvus_default, the Milvus Lite file {HOME / 'target.db'}")
    print(f"Logs:       {HOME}\nCtrl-C ends all of it.", flush=True)
    while all(process.poll() is None for process in processes):
        time.sleep(1)
    raise SystemExit(f"a component of Airflow has ended: see {HOME}/*.log")


def _free_ports() -> list[int]:
    """For the UI, and for the log servers of scheduler and triggerer."""
    first = next(port for port in range(PORT, PORT + 1000) if _is_free(port))
    sockets = [socket.socket() for _ in range(2)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return [first, *ports]


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("localhost", port), 1):
        return False
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return True
    return False


def _environment(port: int, worker_log_port: int, trigger_log_port: int) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    url = f"http://localhost:{port}"
    return others | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(HOME / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
    }


def _prepare(env: dict[str, str], password: str) -> None:
    """Write the sample, the DAGs and the password; create the database, the connection and the pool; test them."""
    (HOME / "passwords.json").touch(mode=0o600)
    (HOME / "passwords.json").write_text(json.dumps({"admin": password}))
    (HOME / "dags" / "sample.py").write_text(DAG.format(pool=POOL, source=HOME / "milvus"))
    connection = {"conn_type": "milvus", "extra": {"uri": str(HOME / "target.db")}}
    test = (
        "from airflow_provider_milvusdm.hooks.milvus import MilvusHook; ok, text = MilvusHook().test_connection(); "
        "print('Connection milvus_default:', text); raise SystemExit(not ok)"
    )
    for command in (
        ["milvusdm", "sample", str(HOME / "milvus")],
        ["milvusdm", "dags", str(HOME / "dags")],
        ["airflow", "db", "migrate"],
        ["airflow", "connections", "add", "milvus_default", "--conn-json", json.dumps(connection)],
        ["airflow", "pools", "set", POOL, "4", "Migrations to Milvus"],
    ):
        _call(command, env)
    tested = env | {"AIRFLOW_CONN_MILVUS_DEFAULT": json.dumps(connection)}
    print(_call([sys.executable, "-c", test], tested).splitlines()[-1])


def _call(command: list[str], env: dict[str, str]) -> str:
    """Run a command to its end; its output is shown if it fails."""
    print(f"… {' '.join(command[:3])}" if command[0] != sys.executable else "… test the connection", flush=True)
    ended = subprocess.run(command, env=env, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        raise SystemExit(ended.stdout)
    return ended.stdout


@contextmanager
def _running(component: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A component of Airflow, in a session of its own; all that it started has ended after the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["airflow", component], env=env, cwd=HOME, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, GRACE_SECONDS)
        for left in alive:
            with suppress(psutil.NoSuchProcess):
                left.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(url: str, processes: list[subprocess.Popen[bytes]], logs: list[Path]) -> None:
    print("… start Airflow", flush=True)
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for process, log in zip(processes, logs, strict=True):
            if process.poll() is not None:
                raise SystemExit(f"Airflow did not start: see {log}\n{log.read_text()[-2000:]}")
        with suppress(OSError, ValueError), opener.open(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
            if all((health[name] or {}).get("status") == "healthy" for name in ("scheduler", "dag_processor")):
                return
        time.sleep(0.5)
    raise SystemExit(f"Airflow did not start within {START_SECONDS} s: see {HOME}/*.log")


if __name__ == "__main__":
    sys.exit(main())
