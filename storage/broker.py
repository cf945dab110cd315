"""The queue: message, routing, and Celery's settings; it carries wake-ups, never the truth.

A message is `{"job": id, "schema": version}` and nothing else: losing one costs time, repeating or forging one
can only wake a real job. Without a broker address jobs travel through kombu's file transport beside the
SQLite database (the embedded mode); it loses messages when killed, which `storage.outbox` makes good.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celery
import kombu
import sqlalchemy.engine

from storage import errors, records, settings

TASK = "quantfleet.run_job"
"""The one task that there is."""

TIME_LIMIT_S = 6 * 3600
"""Backstop for a task that hangs: far above any job's own bound."""

PING_S = 5.0
"""How long a broker may take to answer at all."""

FILE_ORDER_S = 0.001
"""The file transport orders messages by the millisecond, and by chance within one."""


def queue_of(platform_key: str, wanted_host: str | None = None) -> str:
    """The queue that a job's wake-up goes to: its host's, its platform's, or everyone's."""
    if wanted_host is not None:
        return f"host.{wanted_host}"
    return "any" if platform_key == records.ANY_PLATFORM else f"platform.{platform_key}"


def queues_of(platform_key: str, host: str) -> tuple[str, ...]:
    """The queues that a host's worker listens to, always by name."""
    return queue_of(platform_key, host), queue_of(platform_key), queue_of(records.ANY_PLATFORM)


def message(job_id: str) -> dict[str, Any]:
    """What travels through the queue for one job."""
    return {"job": job_id, "schema": records.SCHEMA_VERSION}


def job_of(body: Mapping[str, Any]) -> str:
    """The job id of a message; ValueError for a message that is none of ours."""
    job, schema = body.get("job"), body.get("schema")
    if not isinstance(job, str) or not isinstance(schema, int) or schema > records.SCHEMA_VERSION:
        raise ValueError(f"not a message of quantfleet, or of a newer one: {dict(body)!r}")
    return job


def queue_folder(config: settings.Settings) -> Path:
    """Where the embedded queue lies: beside its SQLite database."""
    database = sqlalchemy.engine.make_url(config.database).database
    if not database:
        raise errors.SettingsError("the embedded mode needs a SQLite database in a file")
    return Path(f"{database}.queue").resolve()


def configuration(config: settings.Settings) -> dict[str, Any]:
    """Celery's settings, each for a reason given in docs/design.md under "Delivery"."""
    common: dict[str, Any] = {
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": 1,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_create_missing_queues": False,
        "task_time_limit": TIME_LIMIT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": config.events,
        "task_send_sent_event": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "enable_utc": True,
    }
    return {**common, **(_redis(config) if config.broker else _files(config))}


def app(config: settings.Settings, queues: Iterable[str] = ()) -> celery.Celery:
    """A Celery app for the settings; makes no connection yet."""
    made = celery.Celery("quantfleet", set_as_current=False)
    made.conf.update(configuration(config))
    made.conf.task_queues = [kombu.Queue(name) for name in queues]
    return made


class Publisher:
    """Sends wake-ups for jobs."""

    def __init__(self, config: settings.Settings) -> None:
        self._app = app(config)
        self._queues: dict[str, kombu.Queue] = {}
        self._in_files = not config.broker
        self._address = config.broker or "the file queue"

    def publish(self, job_id: str, queue: str) -> None:
        """Send one wake-up; raises Unreachable when the broker does not take it."""
        target = self._queues.setdefault(queue, kombu.Queue(queue))
        with translated(self._address):
            self._app.send_task(TASK, args=[message(job_id)], queue=target, retry=False)
        if self._in_files:
            time.sleep(FILE_ORDER_S)

    def waiting(self, queue: str) -> int:
        """Messages in a queue that no worker has taken yet."""
        with translated(self._address), self._app.connection_for_write() as connection:
            return int(connection.default_channel._size(queue))  # kombu has no public size

    def purge(self, queue: str) -> None:
        """Drop a queue's messages; their jobs are in the database all the same."""
        with translated(self._address), self._app.connection_for_write() as connection:
            connection.default_channel._purge(queue)

    def ping(self) -> None:
        """Ask the broker for an answer; raises Unreachable, or SettingsError for what time will not mend."""
        with translated(self._address), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=PING_S)
            connection.default_channel._size("any")  # a channel alone may not have said a word yet

    def close(self) -> None:
        """Drop the connections."""
        self._app.close()


@contextmanager
def translated(address: str) -> Iterator[None]:
    """What kombu and its transports raise, as quantfleet's errors, without the address's password."""
    try:
        yield
    except errors.QuantfleetError:
        raise
    except Exception as exc:
        known = _broker_error(exc, address)
        if known is None:
            raise
        raise known from exc


_REFUSED = {
    "WRONGPASS": "refuses the password",
    "invalid password": "refuses the password",
    "invalid username-password": "refuses the password",
    "NOAUTH": "wants a password",
    "Authentication required": "wants a password",
    "NOPERM": "refuses this user the right to do that",
    "CERTIFICATE_VERIFY_FAILED": "shows a certificate that cannot be trusted",
    "WRONG_VERSION_NUMBER": "does not speak TLS there; write redis:// instead of rediss://",
    "record layer failure": "does not speak TLS there; write redis:// instead of rediss://",
}
"""What a broker says when only a person can mend it; Redis and OpenSSL have no error codes, only texts."""


def _broker_error(exc: BaseException, address: str) -> errors.QuantfleetError | None:
    where, said = f"broker {settings.redact(address)}", settings.without_password(str(exc), address)
    for sign, what in _REFUSED.items():
        if sign in said:
            detail = f" ({said})" if "CERTIFICATE" in sign else ""
            return errors.SettingsError(f"{where} {what}{detail}")
    if isinstance(exc, (OSError, kombu.exceptions.KombuError)) or type(exc).__module__.startswith("redis."):
        return errors.Unreachable(f"{where} does not answer: {said}")
    return None


def _files(config: settings.Settings) -> dict[str, Any]:
    folder = queue_folder(config)
    for part in ("messages", "control", "processed"):
        try:
            (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise errors.SettingsError(f"cannot write the queue folder {folder}: {exc.strerror}") from exc
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
            "processed_folder": str(folder / "processed"),
            "polling_interval": 0.2,
        },
    }


def _redis(config: settings.Settings) -> dict[str, Any]:
    return {
        "broker_url": config.broker,
        "worker_disable_prefetch": True,
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    }
