"""Several hosts on one machine: network namespaces with addresses of their own, and a switch (Linux, root).

The switch is a bridge in a namespace of its own, where no firewall of the machine's (Docker's, for one) filters what
goes from host to host.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Host:
    """One namespace: its name, its address, and the switch's end of its cable."""

    name: str
    address: str
    cable: str
    switch: str  # the switch's namespace

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command line begins with to run in there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Pull the cable: packets vanish, no connection is closed."""
        _ip("-n", self.switch, "link", "set", self.cable, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        _ip("-n", self.switch, "link", "set", self.cable, "up")


@dataclass(kw_only=True)
class Network:
    """A switch, a cable to it with an address for the test itself, and the hosts on it."""

    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    # 198.18.0.0/15 is set aside for benchmarks (RFC 2544): nothing real lives there
    subnet: str = field(default_factory=lambda: f"198.18.{int.from_bytes(os.urandom(1))}")
    hosts: list[Host] = field(default_factory=list)

    @property
    def switch(self) -> str:
        """The switch's namespace."""
        return f"qf{self.tag}-switch"

    def add(self) -> Host:
        """One more host."""
        number = len(self.hosts) + 2
        name, inside = f"qf{self.tag}-{number}", f"qfi{self.tag}{number}"
        host = Host(name=name, address=f"{self.subnet}.{number}", cable=f"port{number}", switch=self.switch)
        _ip("netns", "add", name)
        self.hosts.append(host)
        self._plug(inside, host.cable)
        _ip("link", "set", inside, "netns", name)
        _ip("-n", name, "addr", "add", f"{host.address}/24", "dev", inside)
        _ip("-n", name, "link", "set", inside, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        return host

    def _plug(self, end: str, port: str) -> None:
        """A cable from an end that is still with us to a port of the switch."""
        _ip("link", "add", end, "type", "veth", "peer", "name", port, "netns", self.switch)
        _ip("-n", self.switch, "link", "set", port, "master", "bridge0")
        _ip("-n", self.switch, "link", "set", port, "up")

    def __enter__(self) -> Network:
        _ip("netns", "add", self.switch)
        try:
            _ip("-n", self.switch, "link", "add", "bridge0", "type", "bridge")
            _ip("-n", self.switch, "link", "set", "bridge0", "up")
            self._plug(f"qft{self.tag}", "port1")
            _ip("addr", "add", f"{self.subnet}.1/24", "dev", f"qft{self.tag}")
            _ip("link", "set", f"qft{self.tag}", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for name in (*(host.name for host in self.hosts), self.switch):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)  # the cables go with their ends


def why_not() -> str | None:
    """Why this machine cannot have such a network; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` command (iproute2)"
    try:
        with Network() as network:
            network.add()
    except subprocess.CalledProcessError as exc:
        return f"network namespaces are not allowed here: {exc.stderr.strip()}"
    return None


@contextlib.contextmanager
def network(count: int) -> Iterator[Sequence[Host]]:
    """So many hosts that see one another."""
    with Network() as made:
        for _ in range(count):
            made.add()
        yield made.hosts


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
