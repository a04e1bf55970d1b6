"""Real Milvus 2.x servers for tests, each on free ports, gone when the block ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import StartError, free_ports, running, wait_for_start
from tests.support.repository import ROOT
from tests.support.seaweedfs import S3Address
from tests.support.targets import answers

_PORT_OPTIONS = (
    "--proxy-internal-port",
    "--root-coord-port",
    "--query-coord-port",
    "--query-node-port",
    "--index-coord-port",
    "--index-node-port",
    "--data-coord-port",
    "--data-node-port",
    "--etcd-port",
)
_SHORT_INTERVALS = {
    "PROXY_TIMETICKINTERVAL": "50",
    "DATACOORD_SEGMENT_ASSIGNMENTEXPIRATION": "200",
    "QUERYCOORD_CHECKINTERVAL": "100",
    "QUERYCOORD_CHECKCHANNELINTERVAL": "100",
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "100",
    "QUERYCOORD_DISTPULLINTERVAL": "100",
}
"""In milliseconds: a server waits for its next round with each thing that tests ask of it.

``queryCoord.updateNextTargetInterval`` stays as it is: with 0.2 s, searches after upserts missed rows.
"""

_LITTLE_WORK = {"LOG_LEVEL": "warn", "ROOTCOORD_DMLCHANNELNUM": "4"}
"""By default a server writes several lines for each request, and a time tick into each of 16 channels."""


@dataclass(frozen=True)
class MilvusAddress:
    host: str
    port: int
    uri: str


def milvus_server_binary() -> Path:
    """`milvus-server` of PyPI's package `milvus`, a real Milvus 2.3.5."""
    named = os.environ.get("MILVUS_SERVER_BIN")
    binary = Path(named) if named else ROOT / ".venv-milvus" / "bin" / "milvus-server"
    if not binary.is_file():
        raise StartError(f"{binary} is missing: 'make test' makes it, or MILVUS_SERVER_BIN names another")
    return binary


class MilvusServer:
    """A standalone server with its data below `folder`, where it finds them when it's started again.

    `options` are milvus-server's; `scheme` and `client_arguments` are what a client then needs to connect:
    `token="root:Milvus"` with `"--authorization-enabled", "true"`; `scheme="https"` with `"--tls-mode", "1"`.
    """

    def __init__(self, folder: Path, *options: str, scheme: str = "http", **client_arguments: Any) -> None:
        self.folder, self.scheme, self.client_arguments = folder, scheme, client_arguments
        folder.mkdir(parents=True, exist_ok=True)
        binary = milvus_server_binary()
        _share_programs(binary, folder)
        etcd_peer, *ports = free_ports(len(_PORT_OPTIONS) + 1)
        etcd_config = _write_etcd_config(folder, ports[_PORT_OPTIONS.index("--etcd-port")], etcd_peer)
        self.command: list[str | Path] = [binary, "--data", folder, *options]
        self.command += [f"{option}={port}" for option, port in zip(_PORT_OPTIONS, ports, strict=True)]
        self.env = os.environ | _SHORT_INTERVALS | _LITTLE_WORK | {"ETCD_CONFIG_PATH": str(etcd_config)}
        self.run = ExitStack()
        self.start()

    def start(self) -> None:
        """At another address each time, for the last one's port is not to be had for a minute.

        Its other ports stay: by them it knows its sessions of before, and need not wait until they expire.
        """
        [port] = free_ports(1)
        self.address = address = MilvusAddress("127.0.0.1", port, f"{self.scheme}://127.0.0.1:{port}")
        log, parts = self.folder / "milvus-server.log", self.folder / "logs"
        logs = [log, parts / "milvus-stdout.log", parts / "milvus-stderr.log"]
        with ExitStack() as run:
            process = run.enter_context(running([*self.command, f"--proxy-port={port}"], log=log, env=self.env))
            wait_for_start([process], lambda: answers(address.uri, **self.client_arguments), 120, logs)
            self.run = run.pop_all()

    def close(self) -> None:
        """By SIGKILL."""
        self.run.close()


@contextmanager
def running_milvus_server(folder: Path, *options: str, **arguments: Any) -> Iterator[MilvusServer]:
    """A server that runs while the block does, which may kill it and start it again."""
    try:
        with closing(MilvusServer(folder, *options, **arguments)) as server:
            yield server
    finally:
        _remove_programs(folder)


@contextmanager
def milvus_server(folder: Path, *options: str, **arguments: Any) -> Iterator[MilvusAddress]:
    """The address of a :class:`MilvusServer` that runs while the block does."""
    with running_milvus_server(folder, *options, **arguments) as server:
        yield server.address


@dataclass(frozen=True)
class MilvusOnS3:
    uri: str
    s3: S3Address
    bucket: str


@contextmanager
def milvus_server_on_s3(folder: Path, s3: S3Address) -> Iterator[MilvusOnS3]:
    """A standalone server that keeps its data in an S3, and has room for one import job beside the one it does."""
    bucket = "milvus"
    settings = {
        "common.storageType": "minio",
        "minio.address": "127.0.0.1",
        "minio.port": s3.endpoint.rpartition(":")[2],
        "minio.accessKeyID": s3.access_key,
        "minio.secretAccessKey": s3.secret_key,
        "minio.bucketName": bucket,
    }
    options = [f"--extra-config={name}={value}" for name, value in settings.items()]
    with ExitStack() as started:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROOTCOORD_IMPORTMAXPENDINGTASKCOUNT", "1")  # options set only what the template names
            address = started.enter_context(milvus_server(folder, *options))
        yield MilvusOnS3(address.uri, s3, bucket)


def _share_programs(binary: Path, folder: Path) -> None:
    """Give the server the programs that 'make test-tools' unpacked; else it unpacks 250 MB below `folder`."""
    unpacked = binary.parents[1] / "unpacked" / "bin"
    if unpacked.is_dir() and not (folder / "bin").exists():
        (folder / "bin").symlink_to(unpacked)


def _remove_programs(folder: Path) -> None:
    if not (folder / "bin").is_symlink():
        shutil.rmtree(folder / "bin", ignore_errors=True)


def _write_etcd_config(folder: Path, port: int, peer_port: int) -> Path:
    """Without it the etcd inside Milvus takes ports 2379 and 2380, and a machine can have one server only."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    config = folder / "etcd.yaml"
    config.write_text(
        f"listen-client-urls: {client}\nadvertise-client-urls: {client}\nlisten-peer-urls: {peer}\n"
        f"initial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
    )
    return config
