"""JSON lines over a Unix socket between supervisor, nursery and measured child; descriptors can ride along."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Mapping, Sequence
from typing import Any

_CHUNK = 1 << 16
_MOST_DESCRIPTORS = 4


class Closed(Exception):
    """The other end is gone; inside the worker only, the supervisor turns it into `errors.ChildDied`."""


class Channel:
    """One end of a connection; a message is one JSON object."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one message; raises Closed when nobody listens any more."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [data], list(descriptors)) if descriptors else 0
            self._socket.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise Closed from exc

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next message; None after `timeout` seconds of silence. The caller sleeps in the kernel meanwhile."""
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._socket], [], [], timeout)
            if not ready:
                return None
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def take_descriptors(self) -> list[int]:
        """The descriptors that came with the messages received so far."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _fill(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _CHUNK, _MOST_DESCRIPTORS)
        except ConnectionResetError as exc:
            raise Closed from exc
        self._descriptors += descriptors
        if not data:
            raise Closed
        self._buffer += data


def pair() -> tuple[Channel, socket.socket]:
    """A channel and the socket of its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), theirs


def adopt(descriptor: int) -> Channel:
    """A channel over an inherited socket."""
    os.set_inheritable(descriptor, False)
    return Channel(socket.socket(fileno=descriptor))
