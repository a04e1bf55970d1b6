"""An Airflow under CeleryExecutor: its workers are hosts of their own, which share no disk with it or each other."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.support.airflow_home import run_airflow_in_new_interpreter
from tests.support.airflow_standalone import COMPONENTS, IMPORTED_BY_TASKS, StandaloneAirflow
from tests.support.hosts import Host, network_of_hosts
from tests.support.postgresql_server import PostgresqlServer, running_postgresql
from tests.support.processes import StartError, free_ports, kill_session, running, wait_for_start, wait_until
from tests.support.redis_server import running_redis

SERVICES = (*COMPONENTS, "triggerer")
"""What runs on this machine; the workers run elsewhere."""


@dataclass(frozen=True, kw_only=True)
class CeleryAirflow(StandaloneAirflow):
    address: str
    """This machine's in the network of the hosts."""
    hosts: tuple[Host, ...]
    postgresql: PostgresqlServer
    broker: str
    """The URL of Redis."""

    def add_dags(self, name: str, text: str) -> None:
        """On each host, as its bundle would be fetched there."""
        super().add_dags(name, text)
        for host in self.hosts:
            (host.folder / "dags" / f"{name}.py").write_text(text)

    def start_workers(self, *hosts: Host) -> None:
        """Return once they take tasks."""
        logs = {host.name: self._start_worker(host) for host in hosts}
        processes = [self.processes[name] for name in logs]

        def are_ready() -> bool:
            return all(f"{name} ready." in log.read_text(errors="replace") for name, log in logs.items())

        wait_for_start(processes, are_ready, 300, list(logs.values()))

    def _start_worker(self, host: Host) -> Path:
        log = Path(self.env["AIRFLOW_HOME"]) / f"{host.name}-{len(self.logs)}.log"
        self.logs.append(log)
        main = f"{IMPORTED_BY_TASKS}from airflow.__main__ import main; main()"
        command = host.command([sys.executable, "-c", main, "celery", "worker"])
        env = {**self.env, **_folders(host.folder.parent)}
        process = self.started.enter_context(running(command, log=log, env=env))
        self.started.callback(kill_session, process)
        self.processes[host.name] = process
        return log

    def kill_worker(self, host: Host) -> None:
        """Kill the worker of a host with its tasks, as a machine or a container that ends does."""
        kill_session(self.processes[host.name])

    def replace_scheduler(self) -> None:
        """Kill the scheduler, and return once another has begun to work."""
        self.kill("scheduler")
        before = self._scheduled()
        self.start("scheduler")
        wait_until(lambda: self._scheduled() != before, 300, self.tails)

    def _scheduled(self) -> str | None:
        """When a scheduler last gave a sign of life."""
        health = self.call("GET", "/api/v2/monitor/health")
        return health["scheduler"]["latest_scheduler_heartbeat"]

    def restart_ended(self) -> None:
        """Start the components again that have ended: a scheduler does where its database is away."""
        for name in [name for name, process in self.processes.items() if process.poll() is not None]:
            if name in SERVICES:
                self.start(name)
            else:
                self._start_worker(self.host_of(name))

    def empty_broker(self) -> None:
        """Everything that Redis holds is gone."""
        with redis.Redis.from_url(self.broker) as client:
            client.flushall()

    def queued(self) -> int:
        """How many messages wait in Redis for a worker."""
        with redis.Redis.from_url(self.broker) as client:
            return int(client.llen("default"))

    def host_of(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)


@contextmanager
def celery_airflow(folder: Path, names: tuple[str, ...], settings: Mapping[str, str]) -> Iterator[CeleryAirflow]:
    """Airflow with a worker on each of the named hosts; `settings` are further ones of its environment.

    `folder` is the only path that the hosts don't share: each has its own there.
    """
    with ExitStack() as started:
        address, hosts = started.enter_context(network_of_hosts(folder, names))
        postgresql = started.enter_context(running_postgresql(address))
        broker = started.enter_context(running_redis(address))
        main = folder / "main"
        for place in (main, *(host.folder for host in hosts)):
            for name in ("airflow", "dags", "tmp"):
                (place / name).mkdir(parents=True)
        port, log_port, trigger_log_port = free_ports(3)
        url = f"http://{address}:{port}"
        env = _environment(postgresql.url, broker) | _folders(main) | dict(settings) | _addresses(url, address, port)
        env |= {
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
        }
        _migrate(env)
        airflow = CeleryAirflow(
            url, env, started, address=address, hosts=tuple(hosts), postgresql=postgresql, broker=broker
        )
        for component in SERVICES:
            airflow.start(component)
        airflow.start_workers(*hosts)
        processes = list(airflow.processes.values())
        wait_for_start(processes, lambda: airflow.is_healthy(SERVICES), 300, airflow.logs)
        yield airflow


def _folders(folder: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "TMPDIR": str(folder / "tmp"),
    }


def _environment(database: str, broker: str) -> dict[str, str]:
    """What all of Airflow has in common, on every host."""
    url = database.replace("postgresql://", "postgresql+psycopg2://")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return env | {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),  # workers serve their logs to who knows it
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{url}",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    }


def _addresses(url: str, address: str, port: int) -> dict[str, str]:
    return {
        "AIRFLOW__API__HOST": address,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "airflow.utils.net.get_host_ip_address",
    }


def _migrate(env: Mapping[str, str]) -> None:
    result = run_airflow_in_new_interpreter(env, "db", "migrate", timeout=300)
    if result.returncode:
        raise StartError(f"airflow db migrate ended with {result.returncode}\n{result.stdout}")
