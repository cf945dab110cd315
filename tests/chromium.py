"""A headless Chromium for tests, driven through its DevTools pipe: what a page loads, logs, and looks like."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

WAIT_S = 20.0
"""Longest wait for an answer."""

_QUIET = (
    "--no-first-run --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--disable-default-apps --mute-audio --hide-scrollbars --disable-dev-shm-usage"
)


def find() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of a browser, and everything that happened in it."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._left = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command's result; events meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while (found := self._next(deadline)).get("id") != self._number:
            self.events.append(found)
        assert "error" not in found, found
        result: dict[str, Any] = found.get("result", {})
        return result

    def open(self, url: str) -> None:
        """Go somewhere and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, script: str) -> Any:
        """What an expression gives, as JSON."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression holds."""
        deadline = time.monotonic() + WAIT_S
        while not self.value(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"never came true: {script}"
            time.sleep(0.02)

    def look(self, width: int, height: int, *, dark: bool = False, media: str = "screen") -> None:
        """The size of the window, and what the page believes of its surroundings."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """What the window shows, or the whole page, as a PNG file."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def paper(self, path: Path) -> None:
        """The page as it is printed, as a PDF file."""
        found = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, itself the first; what is inside of the page is none."""
        asked = (e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    @property
    def complaints(self) -> list[Any]:
        """Errors and warnings: of scripts, of the console, of the browser."""
        found = [e for e in self.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
        said = [e for e in self.events if e.get("method") == "Runtime.consoleAPICalled"]
        return [*found, *(e for e in said if e["params"]["type"] in ("error", "warning", "assert"))]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser is gone"
            self._left += part
        text, self._left = self._left.split(b"\0", 1)
        found: dict[str, Any] = json.loads(text)
        return found


@contextlib.contextmanager
def browser(executable: str, folder: Path) -> Iterator[Page]:
    """A page of a browser of its own, whose profile lies in a folder."""
    ours, theirs = os.pipe(), os.pipe()
    # beyond 9, so that 3 and 4, where the browser looks for its pipe, are free to be these
    read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (ours[0], theirs[1]))
    become = "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"
    line = [executable, "--headless=new", "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-c", become, str(read), str(write), *line, *_QUIET.split(), "about:blank"],
        pass_fds=(read, write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for fd in (read, write, ours[0], theirs[1]):
        os.close(fd)
    try:
        yield Page(theirs[0], ours[1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        for fd in (theirs[0], ours[1]):
            os.close(fd)
