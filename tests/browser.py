"""A headless Chromium that tests open pages in, spoken to over two pipes: no driver, no socket, no dependency.

The protocol is the browser's own (https://chromedevtools.github.io/devtools-protocol/): JSON messages, a zero byte
after each, read by the browser from descriptor 3 and written by it to descriptor 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe")
LAUNCH = "import os, sys; a, b = map(int, sys.argv[1:3]); os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"

PLAYS = """(async () => {
  const seen = [];
  for (const video of document.querySelectorAll("video")) {
    video.scrollIntoView({block: "center"});
    const from = video.currentTime, end = performance.now() + 15000;
    let moved = false;
    while (!moved && !video.error && performance.now() < end) {
      await new Promise(done => setTimeout(done, 50));
      moved = video.currentTime !== from && video.readyState >= 2;
    }
    seen.push({src: video.getAttribute("src"), moved, ready: video.readyState, width: video.videoWidth,
               error: video.error && video.error.code, loop: video.loop, muted: video.muted});
  }
  return seen;
})()"""
"""Scrolls to each film, as a reader does, and waits until it has moved: browsers rest films that are out of sight."""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in one browser; a context manager.

    Attributes:
        problems: errors and warnings of the console, exceptions, and requests that failed or left the disk.
    """

    def __init__(self, program: str, width: int = 1280, height: int = 900) -> None:
        self.problems: list[str] = []
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._count, self._buffer = 0, b""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]  # clear of 3 and 4
        line = [sys.executable, "-c", LAUNCH, *map(str, high), program, *FLAGS, f"--user-data-dir={self._home.name}"]
        self._process = subprocess.Popen(line, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        self._out, self._in = ours_out, ours_in
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._home.cleanup()

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Set the window's size in CSS pixels, and whether its user likes it dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        """Open a file and wait until it and all it asks for are there."""
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + 30
        while self.run("document.readyState") != "complete":
            assert time.monotonic() < end, f"{page} did not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of a script, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as png."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events on the way are looked at."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._notice(answer.get("method", ""), answer.get("params", {}))

    def _receive(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], seconds)
            assert ready, f"the browser said nothing for {seconds} s"
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser went away"
            self._buffer += piece
        first, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(first)

    def _notice(self, event: str, told: dict[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.problems.append(f"console: {told['args']}")
        elif event == "Runtime.exceptionThrown":
            self.problems.append(f"exception: {told['exceptionDetails']}")
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {told['entry']['text']} {told['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("file:", "data:", "about:")):
            self.problems.append(f"request: {told['request']['url']}")
        elif event == "Network.loadingFailed" and not told.get("canceled"):
            self.problems.append(f"failed: {told['errorText']}")
