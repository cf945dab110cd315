"""Addresses of the database and the broker: shown without their passwords, and a broker's read with care.

The texts are cut up by hand here, not by a URL parser: what a person mistyped may hold its password anywhere,
and an address that no parser takes is exactly the one that gets into an error message.
"""

from __future__ import annotations

import os
import re
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from storage import errors

UNREADABLE = "an address that cannot be read"

BROKER_EXPECTED = "expected redis://:PASSWORD@HOST:6379/0, or rediss://… for TLS"
ENCODED = "odd characters of a password are written %XX: / as %2F, @ as %40, # as %23, ? as %3F"

TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")
"""What may stand behind the `?` of a rediss:// address; redis-py's names."""

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_CHECKS = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}


def redact(address: str) -> str:
    """An address without its passwords."""
    scheme, before, after = _cut(address)
    if not scheme:
        return UNREADABLE if set(address) & set("@:?") else address
    shown = _without_query_secrets(after)
    if before is None:
        return f"{scheme}://{shown}"
    user, colon, _ = before.partition(":")
    if scheme.startswith("redis") and not colon:
        return f"{scheme}://***@{shown}"
    if set(user) & set("/?#"):
        return UNREADABLE
    return f"{scheme}://{user}:***@{shown}" if colon else f"{scheme}://{user}@{shown}"


def without_password(text: str, address: str) -> str:
    """A library's message without the passwords of the address that it is about."""
    for secret in sorted(_spellings(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def has_password(address: str) -> bool:
    """Whether an address holds a password, which a command line must not: every user of the machine could read it."""
    return any(_secrets(address))


def broker_settings(address: str) -> dict[str, Any]:
    """Celery's settings for a Redis address; SettingsError for one that cannot be used, before anything is sent.

    A rediss:// address verifies the server's certificate and its name unless it says otherwise: kombu by itself
    would verify nothing.
    """
    parts = _split(address)
    plain = urllib.parse.unquote_plus
    given = {plain(name): plain(value) for name, _, value in _query(f"?{parts.query}") if name}
    for name in given:
        if name not in TLS_PARAMETERS:
            near = errors.nearest(name, TLS_PARAMETERS)
            raise errors.SettingsError(f"the broker's address has an unknown parameter {name!r}{near}")
    bare = address.partition("?")[0]
    if parts.scheme == "redis":
        if given:
            raise errors.SettingsError(f"the broker's address sets {min(given)}, which needs rediss:// (TLS)")
        return {"broker_url": bare}
    return {"broker_url": bare, "broker_use_ssl": _tls(given)}


def _split(address: str) -> urllib.parse.SplitResult:
    """The parts of a broker's address, each of them usable; no message shows any of it: it may hold a password."""
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme not in ("redis", "rediss"):
        what = f"begins with {scheme}://" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,15}", scheme) else "cannot be read"
        raise errors.SettingsError(f"the broker's address {what}{_near(scheme)}; {BROKER_EXPECTED}")
    try:
        parts = urllib.parse.urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:  # a port that is no number, or a broken IPv6 host
        host, parts = None, urllib.parse.urlsplit("")
    if not host or parts.fragment or "@" in host:
        raise errors.SettingsError(f"the broker's address cannot be read; {BROKER_EXPECTED}; {ENCODED}")
    if not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise errors.SettingsError("the broker's address names a database that is no number; write /0 at its end")
    return parts


def _near(scheme: str) -> str:
    return errors.nearest(scheme, ("redis", "rediss")).replace("'?", "://'?") if scheme else ""


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
    """redis-py's parameters for a verified link, as far as the address does not say otherwise."""
    for name in _FILES:
        file = given.get(name)
        if file is not None and not (Path(file).is_file() and os.access(file, os.R_OK)):
            raise errors.SettingsError(f"the broker's address names {name}={file}, which is no file that can be read")
    checks, named = given.get("ssl_cert_reqs", "required"), given.get("ssl_check_hostname", "true").lower()
    if checks not in _CHECKS or named not in ("true", "false"):
        raise errors.SettingsError(
            "the broker's address: expected ssl_cert_reqs=required or none, and ssl_check_hostname=true or false"
        )
    return {**given, "ssl_cert_reqs": _CHECKS[checks], "ssl_check_hostname": named == "true" and checks != "none"}


def _cut(address: str) -> tuple[str, str | None, str]:
    """Scheme (empty: none), what stands before the last `@` (None: no `@`), and the rest."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return "", None, address
    if scheme.startswith("sqlite"):  # a path may hold any character, and there is no password
        return scheme, None, rest
    before, at, after = rest.rpartition("@")
    return scheme, before if at else None, after


def _secrets(address: str) -> Iterator[str]:
    """The passwords of an address as they are written there."""
    scheme, before, after = _cut(address)
    if before is not None:
        user, colon, password = before.partition(":")
        if password:
            yield password
        elif not colon and scheme.startswith("redis"):
            yield user  # a user without a password is more likely a password in the wrong place
    for text in (after, before or ""):
        yield from (value for name, _, value in _query(text) if value and _is_secret(name))


def _spellings(address: str) -> set[str]:
    """The passwords of an address in every way in which a message may repeat them."""
    found: set[str] = set()
    for written in _secrets(address):
        plain = urllib.parse.unquote(written)
        found |= {written, plain, repr(plain)[1:-1], urllib.parse.unquote_plus(written)}
        found |= {urllib.parse.quote(plain, safe=""), urllib.parse.quote(plain), urllib.parse.quote_plus(plain)}
    return found


def _query(text: str) -> list[tuple[str, str, str]]:
    """Name, `=` and value of each parameter; an & without a name behind it is one that should have been a %26."""
    found: list[tuple[str, str, str]] = []
    for part in text.partition("?")[2].split("&"):
        name, equals, value = part.partition("=")
        if found and not equals:
            found[-1] = (*found[-1][:2], f"{found[-1][2]}&{part}")
        else:
            found.append((name, equals, value))
    return found


def _without_query_secrets(text: str) -> str:
    where, mark, _ = text.partition("?")
    shown = [
        f"{name}=***" if value and _is_secret(name) else name + equals + value for name, equals, value in _query(text)
    ]
    return where + mark + "&".join(shown)


def _is_secret(name: str) -> bool:
    return "password" in urllib.parse.unquote_plus(name).lower()
