"""The live view as a web application: pages made on the server, read from the database anew each time."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from scheduler import progress
from scheduler.report import page, reading
from scheduler.serve import views
from scheduler.serve.access import Guard
from storage import errors
from storage.database import Database

ASSETS = "/static/"

BUSY_S = 3.0
"""How long a page waits for a database that is locked."""

KEPT_S = 3600
"""How long a browser may keep the plotting library."""

Pause = int
"""Seconds between two loads of a page; 0: none."""


class Live:
    """The pages over one database; each request opens it, so that one that was away is found when it is back."""

    def __init__(self, database: str, refresh: Pause) -> None:
        self._database = database
        self._refresh = refresh
        self._making = threading.Lock()  # one report at a time: it takes a core for a while

    def overview(self, request: Request) -> Response:
        """Studies with their progress, hosts in a few counts."""
        with self._open() as db:
            everything = request.query_params.get("all") == "1"
            return self._page("overview.html", request, found=views.overview(db, everything=everything))

    def hosts(self, request: Request) -> Response:
        """Hosts with what they are and do."""
        with self._open() as db:
            return self._page("hosts.html", request, rows=views.hosts(db))

    def study(self, request: Request) -> Response:
        """One study's progress by host, its running jobs and its failures."""
        with self._open() as db:
            return self._page("study.html", request, found=views.study(db, request.path_params["study"]))

    def compare(self, request: Request) -> Response:
        """Gains and accuracies alone: quick."""
        return self._report(request, "live_compare.html", most_spreads=0)

    def report(self, request: Request) -> Response:
        """The whole report."""
        return self._report(request, "live_report.html", most_spreads=reading.MOST_SPREADS)

    def static(self, request: Request) -> Response:
        """Style, script and plotting library."""
        kinds = {"report.css": "text/css", "report.js": "text/javascript", "plotly.js": "text/javascript"}
        name = request.path_params["name"]
        if name not in kinds:
            raise HTTPException(404)
        body = page.plotly_script() if name == "plotly.js" else page.text(name)
        kept = f"private, max-age={KEPT_S}" if name == "plotly.js" else "no-cache"
        return Response(body, media_type=kinds[name], headers={"cache-control": kept})

    def trouble(self, request: Request, exc: Exception) -> Response:
        """A page that says what is wrong, and tries again where that may pass."""
        if not isinstance(exc, errors.QuantfleetError):
            raise exc
        status, heading = views.trouble(exc)
        more = {"heading": heading, "message": str(exc)}
        return self._page("trouble.html", request, status=status, again=status == 503, **more)

    def missing(self, request: Request, exc: Exception) -> Response:
        """A page that is none of these."""
        more = {"heading": "There is no such page", "message": request.url.path}
        return self._page("trouble.html", request, status=404, again=False, **more)

    def _open(self) -> Database:
        return Database.open(self._database, readonly=True, busy_timeout=BUSY_S)

    def _report(self, request: Request, template: str, *, most_spreads: int) -> Response:
        given = request.query_params.get("study")
        with self._making, self._open() as db:
            number = request.query_params.get("page", "1")
            found = reading.read(db, views.wanted(db, given, number, most_spreads=most_spreads))
        more = {"study": given, "here": request.url.path}
        return HTMLResponse(page.html(found, ASSETS, template=template, templates=templates(), **more))

    def _page(self, template: str, request: Request, *, status: int = 200, again: bool = True, **more: Any) -> Response:
        paused = request.query_params.get("refresh") == "0"
        refresh = self._refresh if again and not paused else 0
        context = {"assets": ASSETS, "refresh": refresh, "paused": paused, "here": request.url.path, **more}
        return HTMLResponse(templates().get_template(template).render(context), status)


def application(database: str, *, token: str | None, refresh: Pause = 5) -> ASGIApp:
    """The application; `token` None: for those who reach this machine's loopback, by its names.

    Endpoints are plain functions, which the framework runs in threads: a slow database holds up nobody else.
    """
    live = Live(database, refresh)
    routes: list[tuple[str, Callable[[Request], Response]]] = [
        ("/", live.overview),
        ("/hosts", live.hosts),
        ("/studies/{study}", live.study),
        ("/compare", live.compare),
        ("/report", live.report),
        ("/static/{name}", live.static),
    ]
    inner = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in routes],
        exception_handlers={
            errors.QuantfleetError: live.trouble,
            404: live.missing,
            500: lambda request, exc: PlainTextResponse("an error that nobody expected; the log has it\n", 500),
        },
    )
    return Guard(inner, token)


@functools.cache
def templates() -> jinja2.Environment:
    """The report's templates and those of the live pages."""
    loaders = [jinja2.PackageLoader("scheduler.serve"), jinja2.PackageLoader("scheduler.report")]
    found = page.environment().overlay(loader=jinja2.ChoiceLoader(loaders))
    found.filters["lasting"] = progress.lasting
    found.filters["ago"] = lambda moment: progress.lasting(max(0.0, time.time() - moment))
    return found
