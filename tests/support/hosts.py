"""Hosts of a network of their own: namespaces with their own network, host name and view of a folder.

They need root, and a kernel with network namespaces, veth pairs and bridges.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Process, StartError, running, wait_for_start

_ENTER = """
set -e
hostname "$1"
mount --bind "$4" /etc/hosts
mount --bind "$2" "$3"
ip link set lo up
echo ready
exec sleep infinity
"""
"""Of the process that keeps a host's namespaces."""


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    folder: Path
    """What the host sees in place of the folder that all hosts share the path of."""
    keeper: Process
    link: str
    """The end of its cable at the bridge."""

    def command(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs `command` on this host, as the same process."""
        return ["nsenter", f"--target={self.keeper.pid}", "--net", "--uts", "--mount", "--", *command]

    def cut_off(self) -> None:
        """Pull the cable out: nothing arrives, and nobody is told."""
        _ip("link", "set", self.link, "down")

    def reconnect(self) -> None:
        _ip("link", "set", self.link, "up")


class Network:
    """A bridge; this machine has the first of its addresses."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        number = _free_network()
        self.bridge = f"mdm{number[0]}x{number[1]}"
        self.address = _address(number, 1)
        self.names = {name: _address(number, 11 + index) for index, name in enumerate(names)}

    def start(self, started: ExitStack) -> list[Host]:
        _ip("link", "add", self.bridge, "type", "bridge")
        started.callback(_ip, "link", "delete", self.bridge)
        _ip("address", "add", f"{self.address}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        return [self._start_host(started, name) for name in self.names]

    def _start_host(self, started: ExitStack, name: str) -> Host:
        folder, log = self.folder / name, self.folder / f"{name}.log"
        folder.mkdir(parents=True)
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{address} {other}\n" for other, address in self._known().items()))
        command: list[str | Path] = ["unshare", "--net", "--uts", "--mount", "--", "sh", "-c", _ENTER, "sh"]
        keeper = started.enter_context(running([*command, name, folder, self.folder, hosts], log=log))
        wait_for_start([keeper], lambda: "ready" in log.read_text(), 30, [log])
        link, far_end = f"{self.bridge}-{name[-1]}", "uplink"
        _ip("link", "add", link, "type", "veth", "peer", "name", far_end, "netns", str(keeper.pid))
        _ip("link", "set", link, "master", self.bridge, "up")
        host = Host(name, self.names[name], folder, keeper, link)
        for arguments in (["address", "add", f"{host.address}/24", "dev", far_end], ["link", "set", far_end, "up"]):
            _run(host.command(["ip", *arguments]))
        return host

    def _known(self) -> dict[str, str]:
        return {"localhost": "127.0.0.1"} | self.names


@contextmanager
def network_of_hosts(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, list[Host]]]:
    """This machine's address in a new network, and its hosts.

    Each host sees a folder of its own as `folder`, and nothing else that is in it.
    """
    if os.geteuid() != 0:
        raise StartError("hosts of their own are network namespaces, which only root may make: run these tests as root")
    network = Network(folder, names)
    with ExitStack() as started:
        yield network.address, network.start(started)


def _free_network() -> tuple[int, int]:
    """The second and third number of a network 10.x.y.0/24 that no interface is in."""
    interfaces = json.loads(_run(["ip", "-json", "-4", "address"]))
    taken = {info["local"].rpartition(".")[0] for interface in interfaces for info in interface["addr_info"]}
    choices = [(x, y) for x in range(64, 128) for y in range(256) if f"10.{x}.{y}" not in taken]
    return random.SystemRandom().choice(choices)


def _address(network: tuple[int, int], host: int) -> str:
    return f"10.{network[0]}.{network[1]}.{host}"


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: Sequence[str | Path]) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise StartError(f"{' '.join(map(str, command))} ended with {result.returncode}: {result.stdout}")
    return result.stdout
