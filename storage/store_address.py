"""Addresses of the store that a fleet shares: a folder by its full path, or a URL of fsspec's.

Only their form is judged here, without importing fsspec: what reads settings need not have it loaded, nor be the
machine on which the store is used.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from storage import addresses

EXPECTED = "expected the full path of a folder, or a URL such as s3://BUCKET/PREFIX"

S3 = ("s3", "s3a")
"""Protocols of S3 and what speaks like it."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL | re.IGNORECASE)


def normal(address: str) -> str:
    """The address without a `/` at its end, a file:// URL as its path; ValueError says what is wrong, showing nothing.

    Nothing but a user's password may be secret in it: what would hold keys elsewhere is refused.
    """
    if not address or address.startswith("/"):
        return _folder(address) if address else ""
    if "::" in address:
        raise ValueError(f"chained URLs are not taken; {EXPECTED}")
    found = _URL.fullmatch(address)
    if found is None:
        raise ValueError(f"a relative path means another folder to every worker; {EXPECTED}")
    protocol, rest = found[1].lower(), found[2]
    if protocol in ("file", "local"):
        return _folder(rest)
    _check(protocol, rest)
    return f"{protocol}://{rest.rstrip('/')}"


def redact(address: str) -> str:
    """The address without a password."""
    return address if address.startswith("/") else addresses.redact(address)


def _folder(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"a relative path means another folder to every worker; {EXPECTED}")
    if ".." in PurePosixPath(path).parts or "\0" in path:
        raise ValueError(f"a path with '..' in it; {EXPECTED}")
    return str(PurePosixPath("/" + path.lstrip("/")))


def _check(protocol: str, rest: str) -> None:
    if "?" in rest:
        raise ValueError("a store's URL has no parameters: keys and endpoints come from the environment (AWS_…)")
    if protocol not in S3:
        return
    if "@" in rest:
        raise ValueError("keys do not belong into an s3:// URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not rest.strip("/") or rest.startswith("/"):
        raise ValueError("the URL names no bucket; expected s3://BUCKET/PREFIX")
