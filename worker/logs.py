"""What the worker's processes say on stderr: one line an event, and never a password."""

from __future__ import annotations

import logging

from storage import settings

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OURS = ("worker", "storage")
"""Loggers that tell every event; of libraries only warnings are told."""


class Discreet(logging.Formatter):
    """A formatter that hides the passwords of the settings' addresses, in tracebacks too."""

    def __init__(self, config: settings.Settings) -> None:
        super().__init__(FORMAT)
        self._addresses = tuple(address for address in (config.database, config.broker) if "://" in address)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one text, without passwords."""
        text = super().format(record)
        for address in self._addresses:
            text = settings.without_password(text, address)
        return text


def set_up(config: settings.Settings) -> None:
    """Log to stderr from now on; Celery leaves a handler that is there alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(Discreet(config))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # Celery's about its own next version
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
