"""A headless Chromium, driven over pipes by the DevTools protocol: no driver to install, no port to open.

https://chromedevtools.github.io/devtools-protocol/, with `--remote-debugging-pipe`: JSON messages that end in NUL,
to the browser on its descriptor 3 and back on 4.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update",
    "--disable-extensions", "--disable-sync", "--disable-quic", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
# The descriptors must be 3 and 4, whatever they are here; both are first moved out of the way.
_LAUNCH = (
    "import os, sys; r, w = (os.dup(int(n)) for n in sys.argv[1:3]); a, b = os.dup(r), os.dup(w); "
    "os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """The path of an installed Chromium or Chrome, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a running browser."""

    def __init__(self, to: int, back: int) -> None:
        self.to, self.back, self.last = to, back, 0
        self.session: str | None = None
        self.unread = b""
        self.events: list[dict[str, object]] = []

    def send(self, method: str, **params: object) -> dict:
        """Call a method and wait for its answer; events on the way are kept in `events`."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session and not method.startswith("Target."):
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict:
        while b"\0" not in self.unread:
            data = os.read(self.back, 1 << 20)
            assert data, "the browser has gone"
            self.unread += data
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def open(self, path: Path, width: int = 1280, height: int = 900, *, javascript: bool = True) -> None:
        """Show a file in a window of CSS pixels, and wait until it is there; errors of the page are in `errors`."""
        self.events.clear()
        self.send("Emulation.setScriptExecutionDisabled", value=not javascript)
        self.resize(width, height)
        self.send("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < deadline, f"{path} did not load"
            self.events.append(self._read())

    def resize(self, width: int, height: int) -> None:
        """Set the window's size in CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`, and no motion, so that nothing is still moving when it is measured."""
        wanted = {"prefers-color-scheme": name, "prefers-reduced-motion": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in wanted.items()])

    def js(self, expression: str) -> object:
        """The value of an expression in the page, in which `$` and `$$` select an element and all elements."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True, "includeCommandLineAPI": True}
        answer = self.send("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key that the focused element gets, e.g. `ArrowRight`."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Escape": 27, "Tab": 9}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            extra = text if kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **extra)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """`mouseMoved`, `mousePressed` or `mouseReleased` at a place of the window."""
        held = kind != "mouseReleased"
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=int(held), clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at one place, move to another and let go."""
        self.mouse("mousePressed", *start)
        self.mouse("mouseMoved", *end)
        self.mouse("mouseReleased", *end)

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The same with a finger."""
        for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write the window, or the whole page, as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    @property
    def errors(self) -> list[object]:
        """What went wrong in the page since it was opened: exceptions, and what the console calls an error."""
        self.js("1")  # events that lie unread come with the answer
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """Every URL that was asked for since the page was opened, but those of data."""
        self.js("1")
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]


@contextmanager
def running(chromium: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile in a folder, and end it."""
    (read_there, to), (back, write_there) = os.pipe(), os.pipe()
    command = [sys.executable, "-c", _LAUNCH, str(read_there), str(write_there), chromium, *_FLAGS]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*command, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(read_there, write_there), stdin=quiet, stdout=quiet, stderr=quiet,
    )  # fmt: skip
    os.close(read_there)
    os.close(write_there)
    try:
        browser = Browser(to, back)
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.send(f"{domain}.enable")
        yield browser
        with suppress(AssertionError, OSError):
            browser.session = None
            browser.send("Browser.close")
    finally:
        os.close(to)
        os.close(back)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
