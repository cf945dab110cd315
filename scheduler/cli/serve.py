"""`quantfleet serve`: studies, hosts and reports live in a browser."""

from __future__ import annotations

import errno
import os
import socket
from typing import Annotated

import typer

from scheduler.cli.options import DatabaseOption
from storage import errors, settings
from storage.database import Database

PORT = 8787


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at. Any but loopback's asks for a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = PORT,
    database: DatabaseOption = None,
    refresh: Annotated[int, typer.Option(min=0, help="Seconds between two loads of a page; 0: never by itself.")] = 5,
) -> None:
    """Show studies with their progress, hosts, comparisons and reports in a browser, read from the database anew.

    Nothing can be changed there. On loopback everybody on this machine may look; anywhere else it takes a token:
    QUANTFLEET_SERVE_TOKEN, or one that is made and printed once. Ctrl-C ends it.

    \b
    Examples:
      quantfleet serve
      quantfleet serve --host 0.0.0.0 --port 8080
      ssh -L 8787:localhost:8787 first-machine quantfleet serve
    """
    try:
        import uvicorn

        from scheduler.report import page
        from scheduler.serve import access, app
    except ImportError as exc:
        raise errors.SettingsError("the live view needs more packages: pip install 'quantfleet[serve]'") from exc
    page.plotly_script()
    config = settings.load(database=database)
    token = _token(config.serve_token, loopback=access.is_loopback(host))
    _look(config.database)
    listening = _listen(host, port)
    _say(host, listening.getsockname()[1], token, shown=not config.serve_token)
    server = uvicorn.Server(
        uvicorn.Config(
            app.application(config.database, token=token, refresh=refresh),
            log_level="warning",
            access_log=False,  # a log of addresses would hold the token
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=64,
            timeout_graceful_shutdown=2,
        )
    )
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _token(given: str, *, loopback: bool) -> str | None:
    """The token that is asked for; None where none is."""
    from scheduler.serve import access

    if given and len(given) < access.LEAST_LETTERS:
        raise errors.SettingsError(
            f"QUANTFLEET_SERVE_TOKEN is short enough to be guessed: give at least {access.LEAST_LETTERS} letters"
        )
    return given or (None if loopback else access.new_token())


def _look(database: str) -> None:
    """Tell what is wrong with the database before a page does; one that does not answer now may answer later."""
    try:
        Database.open(database, readonly=True).close()
    except errors.Unreachable as exc:
        typer.echo(f"{exc}; the pages say so until it answers", err=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        hint = (
            "--port 0 takes a free one" if exc.errno == errno.EADDRINUSE else "--host names an address of this machine"
        )
        reason = os.strerror(exc.errno) if exc.errno is not None and exc.errno > 0 else "no such name"
        raise errors.SettingsError(f"cannot listen at {host} port {port}: {reason}; {hint}") from exc


def _say(host: str, port: int, token: str | None, *, shown: bool) -> None:
    name = f"[{host}]" if ":" in host else {"0.0.0.0": socket.gethostname()}.get(host, host)  # noqa: S104
    typer.echo(f"http://{name}:{port}/" + (f"?token={token}" if token and shown else ""))
    if token:
        what = "the token above is asked for" if shown else "the token of QUANTFLEET_SERVE_TOKEN is asked for"
        typer.echo(f"{what}; without TLS before it, whoever hears the network hears it too", err=True)
