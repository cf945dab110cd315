from __future__ import annotations

import logging

from storage import settings
from worker import logs


def test_no_line_shows_a_password_whoever_wrote_it() -> None:
    config = settings.load(database="postgresql://me:geh%2Feim@host/q", broker="redis://:ver%40steckt@host/0", host="x")
    formatter = logs.Discreet(config)

    def said(text: str, *args: object, exc: BaseException | None = None) -> str:
        info = None if exc is None else (type(exc), exc, exc.__traceback__)
        return formatter.format(logging.LogRecord("any", logging.ERROR, "f", 1, text, args, info))

    for secret in ("geh%2Feim", "geh/eim", "ver%40steckt", "ver@steckt"):
        assert secret not in said("cannot connect to %s", f"redis://:{secret}@host")
        assert secret not in said("no", exc=ValueError(f"bad {secret}"))
    assert "host" in said("cannot connect to %s", "host")
