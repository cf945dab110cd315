"""What a launcher owes to its fleet: the host is registered and seen, spooled results and wake-ups go out."""

from __future__ import annotations

import logging
import os

from storage import broker, errors, hosts, keys, leadership, lifecycle, outbox, records, settings
from storage.database import Database
from worker import bell, delivery, environment, hardware, spool

PATIENCE_S = 20.0
"""How long database or broker may take for one step; Redis' own timeouts are 5 and 15 s."""

log = logging.getLogger(__name__)


class Duties:
    """The launcher's dealings with database and broker; no method hangs for much longer than `PATIENCE_S`.

    All raise Unreachable or DatabaseBusy for what may pass, other UserErrors for what a person must mend.
    """

    def __init__(self, config: settings.Settings, alarm: bell.Bell) -> None:
        self._config = config
        self._alarm = alarm
        self._holder = f"{config.host}/{os.getpid()}"
        self._publisher = broker.Publisher(config)
        self._database: Database | None = None
        self._platform: records.Platform | None = None

    def meet_broker(self) -> None:
        """Make sure that the broker answers; a host that waits for one is seen all the same."""
        self.be_seen()
        with self._alarm.within(PATIENCE_S):
            self._publisher.ping()

    def take_over(self) -> records.Platform:
        """Register this host as it is now, and take back what an earlier worker of it left running.

        To be called while no worker of this host is alive: the caller holds the host's worker lock.
        """
        platform = keys.platform(hardware.probe(os.environ), environment.probe(os.environ))
        with self._alarm.within(PATIENCE_S):
            self._register(platform)
            lifecycle.adopt(self._open(), self._config.host)
        self._platform = platform
        return platform

    def be_seen(self) -> None:
        """Tell that this host's worker is alive, and deliver what its spool holds."""
        with self._alarm.within(PATIENCE_S):
            if not hosts.seen(self._open(), self._config.host) and self._platform is not None:
                self._register(self._platform)
        with self._alarm.within(delivery.STORE_S):
            spool.replay(self._open(), spool.folder(self._config))

    def reconcile(self) -> None:
        """The reconciler's duty, if it is ours to do."""
        with self._alarm.within(PATIENCE_S):
            outbox.tick(self._open(), self._publisher, self._holder, self._config)

    def say_goodbye(self) -> None:
        """Take back what the ended worker left, deliver the spool, tell that this host stops."""
        if self._platform is None:
            return
        with self._alarm.within(PATIENCE_S):
            database = self._open()
            spool.replay(database, spool.folder(self._config))
            lifecycle.adopt(database, self._config.host)
            hosts.goodbye(database, self._config.host)
            leadership.resign(database, self._holder)

    def hang_up(self) -> None:
        """Drop every connection: after a failure, and in the end. The next step connects anew."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._publisher.close()

    def _open(self) -> Database:
        if self._database is None:
            self._database = Database.open(self._config.database)
        return self._database

    def _register(self, platform: records.Platform) -> None:
        hosts.register(self._open(), name=self._config.host, platform=platform, labels=self._config.labels)


def require_fleet(config: settings.Settings) -> None:
    """Refuse settings that serve one machine only; SettingsError says what to do instead."""
    from storage import database

    if database.sqlite_file(database.parse(config.database)) is not None:
        raise errors.SettingsError(
            "SQLite serves one machine: `quantfleet run STUDY` measures with it; a fleet needs a postgresql:// "
            "address in QUANTFLEET_DATABASE"
        )
    if not config.broker:
        raise errors.SettingsError(
            "QUANTFLEET_BROKER is not set: a fleet's workers wait for jobs at a Redis server, "
            "redis://:PASSWORD@HOST:6379/0"
        )
