"""A page in headless Chromium that can be used: files chosen and dropped, keys, what it shows.

Chromium is spoken to in its own protocol (Chrome DevTools Protocol) over two pipes, so that neither
a driver nor a library is needed.
"""

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.pipeline.reporting import browser

_SECONDS = 60
_STEP = 0.05


class Page:
    """A tab.

    Args:
        write: The file descriptor that Chromium reads commands from.
        read: The file descriptor that it writes answers and events to.
    """

    def __init__(self, write: int, read: int):
        self._write = write
        self._read = read
        self._session: str | None = None
        self._count = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Returns the answer to a command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], _SECONDS)
            assert ready, f"Chromium has said nothing for {_SECONDS} s"
            content = os.read(self._read, 1 << 20)
            assert content, "Chromium has ended"
            self._rest += content
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, url: str, width: int = 1000, height: int = 900, dark: bool = False) -> None:
        """Opens a page in a window of so many pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Returns what an expression is in the page; of a promise, what it comes to."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Waits until an expression is true in the page, and returns it."""
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            if found := self.value(expression):
                return found
            time.sleep(_STEP)
        raise AssertionError(f"never came: {expression}; {self.value('document.body.innerText')}")

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Chooses files in an input, as its dialog does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(file) for file in files], nodeId=node)

    def drop(self, x: int, y: int, files: Sequence[Path]) -> None:
        """Drops files at a place of the window."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def screenshot(self, path: Path) -> Path:
        """Writes what the window shows as a PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def complaints(self) -> list[str]:
        """Returns what scripts and policies have complained of since the last call."""
        self.value("0")  # what was said before this has come then
        found, self.events = self.events, []
        lines = []
        for event in found:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                lines.append(parameters["exceptionDetails"]["text"])
            elif event.get("method") == "Log.entryAdded":
                lines.append(parameters["entry"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled":
                lines.append(str(parameters["args"]))
        return lines


@contextlib.contextmanager
def page(folder: Path) -> Iterator[Page]:
    """Yields a tab of a Chromium that ends with the block.

    Args:
        folder: Where it keeps its profile.
    """
    commands, write = os.pipe()
    read, answers = os.pipe()
    # Chromium takes the descriptors 3 and 4.
    script = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
    process = subprocess.Popen(
        [
            *("bash", "-c", script, browser.program(), *browser.FLAGS),
            *("--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"),
        ],
        pass_fds=(commands, answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    try:
        yield Page(write, read)
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS)
        finally:
            process.kill()
        os.close(write)
        os.close(read)
