"""The queue: message, routing, and Celery's settings; it carries wake-ups, never the truth.

A message is `{"job": id, "schema": version}` and nothing else: losing one costs time, repeating or forging one
can only wake a real job. Without a broker address jobs travel through kombu's file transport beside the
SQLite database (the embedded mode); it loses messages when killed, which `storage.outbox` makes good.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
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

FILE_ORDER_S = 0.001
"""The file transport orders messages by the millisecond, and by chance within one."""


def platform_queue(key: str) -> str:
    """The queue of every worker on one platform."""
    return f"platform.{key}"


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
        "worker_send_task_events": False,
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

    def publish(self, job_id: str, queue: str) -> None:
        """Send one wake-up; raises Unreachable when the broker does not take it."""
        target = self._queues.setdefault(queue, kombu.Queue(queue))
        try:
            self._app.send_task(TASK, args=[message(job_id)], queue=target, retry=False)
            if self._in_files:
                time.sleep(FILE_ORDER_S)
        except (OSError, kombu.exceptions.OperationalError, kombu.exceptions.ChannelError) as exc:
            raise errors.Unreachable(f"the broker does not take messages: {exc}") from exc

    def waiting(self, queue: str) -> int:
        """Messages in a queue that no worker has taken yet."""
        with self._app.connection_for_write() as connection:
            return int(connection.default_channel._size(queue))  # kombu has no public size

    def purge(self, queue: str) -> None:
        """Drop a queue's messages; their jobs are in the database all the same."""
        with self._app.connection_for_write() as connection:
            connection.default_channel._purge(queue)

    def close(self) -> None:
        """Drop the connections."""
        self._app.close()


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
