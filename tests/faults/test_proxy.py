"""The suite's own tool: what it freezes is really frozen, what it swallows is gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.faults.proxy import Proxy


class Echo(services.Server):
    """Answers each line with itself, and remembers it."""

    def start(self) -> None:
        self.seen: list[bytes] = []
        self._listener = socket.create_server((self.host, self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    def kill(self) -> None:
        with contextlib.suppress(OSError):  # it is down already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            while data := client.recv(1024):
                self.seen.append(data)
                client.sendall(data)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    server = Echo(folder=tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as made:
        yield made


def _says(client: socket.socket, text: bytes) -> bytes:
    """Send a text; the answer. ConnectionError when the other end closes, in order or not."""
    client.sendall(text)
    answer = client.recv(1024)
    if not answer:
        raise ConnectionResetError
    return answer


def test_a_request_is_held_before_the_server_sees_it(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    hold = proxy.hold(b"one", b"two", side="asked")

    assert _says(client, b"two") == b"two"
    assert _says(client, b"on") == b"on"
    assert _says(client, b"e") == b"e"
    client.sendall(b"two")
    hold.wait(5)

    assert echo.seen == [b"two", b"on", b"e"]
    hold.release()
    assert client.recv(1024) == b"two"
    assert _says(client, b"onetwo") == b"onetwo"  # once only


def test_an_answer_is_held_when_the_server_has_done_its_part(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    hold = proxy.hold(b"commit", side="answered")
    client.sendall(b"commit")
    hold.wait(5)

    assert echo.seen == [b"commit"]
    with pytest.raises(TimeoutError):
        client.recv(1024)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as other:
        assert _says(other, b"commit") == b"commit"
    hold.release()
    assert client.recv(1024) == b"commit"


def test_a_silent_connection_never_comes_back_a_new_one_works(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    assert _says(client, b"a") == b"a"
    proxy.fall_silent()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as late:
        for each in (client, late):
            with pytest.raises(TimeoutError):
                _says(each, b"b")
        proxy.restore()
        for each in (client, late):
            with pytest.raises(TimeoutError):
                _says(each, b"c")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as fresh:
        assert _says(fresh, b"d") == b"d"
    assert echo.seen == [b"a", b"d"]


def test_a_refusing_proxy_ends_what_is_there_and_what_comes(proxy: Proxy, client: socket.socket) -> None:
    assert _says(client, b"a") == b"a"
    proxy.refuse()
    with pytest.raises(ConnectionError):
        _says(client, b"b")
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as late:
        _says(late, b"c")
    proxy.restore()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as fresh:
        assert _says(fresh, b"d") == b"d"


def test_a_server_that_is_down_looks_down_through_the_proxy(echo: Echo, proxy: Proxy) -> None:
    echo.kill()
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as late:
        _says(late, b"a")
