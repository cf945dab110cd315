"""A TCP proxy between a fleet and one of its servers: it can refuse, fall silent, and freeze a chosen moment.

A hold freezes the one connection on which given bytes pass, either before the server has seen them or when the
server has answered and the client does not know it yet. That is how a fault hits "during claim" or "between
measuring and storing" without any hook in the product.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from tests import services

CHUNK = 1 << 16
TAIL = 4096
"""Bytes kept of what passed: a pattern may be cut by the packets' borders."""

Mode = Literal["passing", "refusing", "silent"]
Side = Literal["asked", "answered"]


@dataclass(kw_only=True)
class Hold:
    """One moment to freeze; for one connection, once."""

    patterns: Sequence[bytes]  # in this order on one connection
    side: Side  # before the server sees the last of them, or before the client sees the answer to it
    caught: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    taken: bool = False  # a connection has come to this moment

    def wait(self, seconds: float = 60.0) -> None:
        """Until a connection stands still at this moment."""
        assert self.caught.wait(seconds), f"nobody sent {list(self.patterns)} within {seconds:g} s"

    def release(self) -> None:
        """Let the connection go on; what was held back arrives."""
        self.released.set()


class Link:
    """One client's connection and its twin to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.silent = False  # for good: a half-open connection does not come back
        self.frozen: Hold | None = None  # at the next answer
        self._seen: dict[int, tuple[int, bytes]] = {}  # hold → patterns met, tail of what passed since

    def meets(self, hold: Hold, data: bytes) -> bool:
        """Whether with `data` the last pattern has passed here."""
        met, tail = self._seen.get(id(hold), (0, b""))
        tail += data
        while met < len(hold.patterns) and (at := tail.find(hold.patterns[met])) >= 0:
            tail = tail[at + len(hold.patterns[met]) :]
            met += 1
        self._seen[id(hold)] = (met, tail[-TAIL:])
        return met == len(hold.patterns)

    def reset(self) -> None:
        """End both connections without a farewell."""
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class Proxy:
    """Forwards a free port of this machine to a server's; use as a context manager."""

    def __init__(self, target: services.Server) -> None:
        self._target = (target.host, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._mode: Mode = "passing"
        self._links: list[Link] = []
        self._holds: list[Hold] = []
        self._lock = threading.RLock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def address(self, of: str) -> str:
        """A server's address with the proxy in its place."""
        return of.replace(f":{self._target[1]}/", f":{self.port}/")

    def hold(self, *patterns: bytes, side: Side) -> Hold:
        """Freeze the next connection on which these bytes pass in this order."""
        made = Hold(patterns=patterns, side=side)
        with self._lock:
            self._holds.append(made)
        return made

    def refuse(self) -> None:
        """End every connection, and every new one at once."""
        self._mode = "refusing"
        self.reset()

    def fall_silent(self) -> None:
        """Swallow everything: connections stay open, nothing comes back. Those of this time never come back."""
        with self._lock:
            self._mode = "silent"
            for link in self._links:
                link.silent = True

    def restore(self) -> None:
        """Forward new connections again."""
        self._mode = "passing"

    def reset(self) -> None:
        """End every connection without a farewell."""
        with self._lock:
            gone, self._links = self._links, []
        for link in gone:
            link.reset()

    def close(self) -> None:
        """End everything."""
        for hold in self._holds:
            hold.release()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket()
            if self._mode == "passing":
                with contextlib.suppress(OSError):  # then its first use resets the client
                    server.connect(self._target)
            self._link(Link(client, server))

    def _link(self, link: Link) -> None:
        with self._lock:
            link.silent = self._mode == "silent"
            if self._mode == "refusing":
                link.reset()
                return
            self._links.append(link)
        for pump in (self._requests, self._answers):
            threading.Thread(target=self._pumping, args=(pump, link), daemon=True).start()

    def _pumping(self, pump: Callable[[Link], None], link: Link) -> None:
        try:
            pump(link)
        except OSError:  # one of the two is gone: so must be the other, or a server would keep its locks
            if not link.silent:
                link.reset()

    def _requests(self, link: Link) -> None:
        while data := link.client.recv(CHUNK):
            hold = self._match(link, data)
            if hold is not None and hold.side == "asked":
                hold.caught.set()
                hold.released.wait()
            elif hold is not None:
                link.frozen = hold
            if not link.silent:
                link.server.sendall(data)
        if not link.silent:
            link.server.shutdown(socket.SHUT_WR)

    def _answers(self, link: Link) -> None:
        while data := link.server.recv(CHUNK):
            hold, link.frozen = link.frozen, None
            if hold is not None:
                hold.caught.set()
                hold.released.wait()
            if not link.silent:
                link.client.sendall(data)
        if not link.silent:
            link.client.shutdown(socket.SHUT_WR)

    def _match(self, link: Link, data: bytes) -> Hold | None:
        with self._lock:
            for hold in self._holds:
                if not hold.taken and link.meets(hold, data):
                    hold.taken = True
                    return hold
        return None
