"""The parent of a host's worker: `python -m worker.launcher` serves a fleet until it is stopped.

It starts the Celery worker and starts it again when it dies, keeps the host registered and seen, delivers what the
spool holds, and takes its turn as the fleet's reconciler. It holds no job and no result itself: kill it at any
point, start it again, and the host goes on.

SIGTERM: the running job is finished first. A second SIGTERM, or SIGINT, SIGQUIT, SIGHUP: it is given back at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from storage import errors, records, settings
from worker import locks, logs
from worker.bell import Bell
from worker.duties import Duties, require_fleet

LONGEST_WAIT_S = 5.0
"""Between two tries to reach a database or broker that does not answer."""

RESTART_S = (1.0, 30.0)
"""First and longest wait before a worker that died is started again."""

SERVED_S = 60.0
"""A worker that lived so long was well: its next death counts as the first."""

IDLE_LOOK_S, IDLE_LOOKS = 0.3, 2
"""Time between two looks at whether the worker that was asked to stop measures, and how many see it idle."""

GIVE_BACK_S = 10.0
"""What a worker may take to give its job back, and end, before it is killed."""

log = logging.getLogger("worker.launcher")  # __name__ is __main__


class Trouble:
    """Tells of a trouble when it comes and when it has gone, not each time that it is met."""

    def __init__(self, gone: str) -> None:
        self._gone = gone
        self.there = False

    def met(self, what: object) -> None:
        """It is there."""
        if not self.there:
            log.warning("%s; trying again", what)
        self.there = True

    def over(self) -> None:
        """It is not."""
        if self.there:
            log.info("%s", self._gone)
        self.there = False


class Crew:
    """The Celery worker as the launcher sees it: one child at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0.0
        self._wait = 0.0  # before the next start

    @property
    def started(self) -> bool:
        """Whether there is a child, living or dead."""
        return self._process is not None

    @property
    def lives(self) -> bool:
        """Whether there is a living child."""
        return self._process is not None and self._process.poll() is None

    def start(self, platform: records.Platform) -> None:
        """Start the child for a platform."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.app", f"--with-parent={os.getpid()}", "--platform-from-stdin"],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            start_new_session=True,  # a Ctrl-C is the launcher's to handle
        )
        self._since = time.monotonic()
        assert self._process.stdin is not None  # noqa: S101 - asked for as a pipe
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stream:
            stream.write(json.dumps(records.to_document(platform)).encode())

    def bury(self) -> float:
        """Tell how the child ended; seconds to wait before the next start."""
        assert self._process is not None  # noqa: S101 - called for a child that ended
        code, lived = self._process.wait(), time.monotonic() - self._since
        self._process = None
        first, longest = RESTART_S
        self._wait = first if lived >= SERVED_S else min(longest, max(first, 2 * self._wait))
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        log.warning("the worker ended %s after %.0f s; started again in %.0f s", how, lived, self._wait)
        return self._wait

    def ask(self, number: signal.Signals) -> None:
        """Send the child a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Kill the child if it lives, and wait for it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Launcher:
    """One host's launcher, from start to stop."""

    def __init__(self, config: settings.Settings, bell: Bell) -> None:
        self._config = config
        self._bell = bell
        self._duties = Duties(config, bell)
        self._crew = Crew()
        self._database = Trouble("the database answers again")
        self._wake_ups = Trouble("wake-ups go out again")
        self._next_tick = self._next_start = 0.0

    def run(self) -> None:
        """Serve until asked to stop. Raises UserError for what only a person can mend."""
        try:
            self._meet(self._duties.take_over, self._database)
            self._meet(self._duties.meet_broker, Trouble("the broker answers"))
            while not self._bell.pressed:
                self._serve()
        except errors.UserError:
            self._bell.pressed += 2
            raise
        finally:
            self._stop()

    def _meet(self, step: Callable[[], object], trouble: Trouble) -> None:
        """Repeat a step until it succeeds or somebody asks to stop."""
        wait = 0.2
        while not self._bell.pressed:
            try:
                step()
            except (errors.Unreachable, errors.DatabaseBusy) as exc:
                trouble.met(exc)
                self._duties.hang_up()
                self._bell.wait(wait)
                wait = min(LONGEST_WAIT_S, 2 * wait)
            else:
                trouble.over()
                return

    def _serve(self) -> None:
        """Do what is due, and sleep until something is or happens."""
        if self._crew.started and not self._crew.lives:
            self._next_start = time.monotonic() + self._crew.bury()
        if not self._crew.started and time.monotonic() >= self._next_start:
            self._start_crew()
        self._tick()
        due = self._next_tick if self._crew.started else min(self._next_tick, self._next_start)
        self._bell.wait(due - time.monotonic())

    def _start_crew(self) -> None:
        """Take back what the last worker left before the next one starts: both have this host's name."""
        try:
            platform = self._duties.take_over()
        except (errors.Unreachable, errors.DatabaseBusy, errors.DatabaseReadOnly) as exc:
            self._database.met(exc)
            self._duties.hang_up()
            self._next_start = time.monotonic() + LONGEST_WAIT_S
        else:
            self._database.over()
            self._crew.start(platform)

    def _tick(self) -> None:
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = time.monotonic() + self._config.reconcile
        if self._attempt(self._duties.be_seen, self._database):  # first: no broker can keep it waiting
            locks.stamp(self._config)
            self._attempt(self._duties.reconcile, self._wake_ups)

    def _attempt(self, duty: Callable[[], None], trouble: Trouble) -> bool:
        """Do a duty of the tick; what keeps it from being done is told, and tried again with the next."""
        try:
            duty()
        except errors.QuantfleetError as exc:
            if isinstance(exc, errors.SchemaMismatch) and not self._bell.pressed:
                raise  # what this program measures has no place there any more
            trouble.met(exc)
            self._duties.hang_up()
            return False
        except Exception:  # a slip of ours here must not end a worker that measures
            log.exception("a duty of the launcher failed")
            self._duties.hang_up()
            return False
        trouble.over()
        return True

    def _stop(self) -> None:
        if self._crew.lives:
            self._dismiss()
        self._crew.end()
        try:
            self._duties.say_goodbye()
            log.info("stopped")
        except errors.QuantfleetError as exc:
            log.warning("stopped without telling the database (%s): what it left comes back by itself", exc)
        finally:
            self._duties.hang_up()

    def _dismiss(self) -> None:
        """Let the worker end: asked once it finishes its job, asked twice it gives it back.

        An idle one is killed, which is quicker than its farewell; a job that it claims in this very moment is taken
        back like any other.
        """
        log.info("stopping%s", "" if self._bell.pressed > 1 else ": a running job is finished first")
        asked = idle = 0
        deadline = math.inf
        while self._crew.lives and time.monotonic() < deadline:
            if asked < min(2, self._bell.pressed):
                self._crew.ask(signal.SIGTERM)
                asked += 1
                deadline = time.monotonic() + GIVE_BACK_S if asked == 2 else math.inf
            idle = 0 if locks.measuring(self._config) else idle + 1
            if idle > IDLE_LOOKS:
                return
            if asked < 2 and not self._database.there:  # who waits for us must not wait for a database
                self._tick()
            self._bell.wait(IDLE_LOOK_S)


def launch(config: settings.Settings) -> None:
    """Serve the fleet of these settings until stopped. Raises UserError for what a person must mend."""
    require_fleet(config)
    with locks.only_worker(config), Bell() as bell:
        Launcher(config, bell).run()


def main() -> None:
    """Entry of `python -m worker.launcher`; exit code 2 for what a person must mend."""
    try:
        config = settings.load()
        logs.set_up(config)
        launch(config)
    except errors.UserError as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
