"""Who may look, and what browsers are told: a token where one is asked for, read-only methods, headers (ASGI).

The token comes once as `?token=…`, and stays as a cookie that holds a digest of it; programs send `Authorization:
Bearer …`. Without a token (loopback only) the page answers to loopback's names alone: a page of another site whose
name was made to point here (DNS rebinding) has another `Host`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "quantfleet_serve"

LEAST_LETTERS = 16
"""Shortest token that a person may choose."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

REFUSED = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>A token is needed</title>
<h1>A token is needed</h1><p>Open the address that <code>quantfleet serve</code> printed when it started, with
<code>?token=…</code> at its end, or send <code>Authorization: Bearer …</code>.</p></html>"""


class Guard:
    """Lets in who has the token, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on, with the headers on what comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(Request(scope))
        await (refused or self._app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that goes no further; None for one that does."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("only GET: nothing can be changed here\n", 405, {"allow": "GET, HEAD"})
        if self._token is None:
            return None if _is_loopback_name(request) else PlainTextResponse("this name is not served here\n", 421)
        if request.query_params.get("token") is not None:
            return self._enter(request)
        given = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        if _same(given, self._token) or _same(request.cookies.get(COOKIE, ""), cookie(self._token)):
            return None
        return HTMLResponse(REFUSED, 401, {"www-authenticate": "Bearer"})

    def _enter(self, request: Request) -> Response:
        """To the same page without the token, which would stay in the browser's history."""
        if not _same(request.query_params["token"], self._token or ""):
            return HTMLResponse(REFUSED, 401, {"www-authenticate": "Bearer"})
        rest = [(name, value) for name, value in parse_qsl(request.url.query) if name != "token"]
        # two slashes would lead to another host
        path = "/" + request.url.path.lstrip("/") + (f"?{urlencode(rest)}" if rest else "")
        answer = RedirectResponse(path, 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie(self._token or ""), httponly=True, samesite="lax", secure=secure)
        return answer


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(32)


def cookie(token: str) -> str:
    """What the cookie holds: who reads it elsewhere does not have the token."""
    return hmac.new(token.encode(), b"quantfleet serve", hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same(given: str, wanted: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(wanted.encode()).digest())


def _is_loopback_name(request: Request) -> bool:
    name = request.headers.get("host", "").rsplit("@", 1)[-1]
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    return is_loopback(name.lower())
