"""A side's process as the harness sees it."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.plan import Side

_ROOT = Path(__file__).parents[1]
_LAST = 2  # lines of what a side printed, in the error
_GRACE = 10.0


class FailedError(Exception):
    """A side died, or did not answer; the message says what it printed last."""


class Worker:
    """A side in a process, and a process group, of its own.

    Args:
        side: What to run.
        python: The interpreter that runs it.
        folder: What `Case.prepare` has filled, or None.
        patience: Seconds that it has for each answer.
    """

    def __init__(self, side: Side, python: Path, folder: Path | None, patience: float):
        self._patience = patience
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115, `kill` closes it
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            **side.environ,
        }
        # In its own group Ctrl-C does not reach it, and all that it started ends with it.
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.side"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=environ,
            start_new_session=True,
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._order = {
            "target": side.target,
            "arguments": dict(side.arguments),
            "folder": str(folder) if folder else None,
        }

    def make(self) -> dict[str, Any]:
        """Makes the side; returns `seconds` and `versions`.

        Raises:
            FailedError: If it dies or does not answer in time.
        """
        return self._ask(json.dumps(self._order))

    def turn(self) -> dict[str, Any]:
        """Does a turn; returns its record (`benchmarks.side.measured`).

        Raises:
            FailedError: If it dies or does not answer in time.
        """
        return self._ask("turn")

    def close(self) -> None:
        """Lets the side end by itself, then ends what is left of it.

        May be called again, as may `kill`.
        """
        try:
            if self._process.poll() is None:
                self._process.stdin.close()
                self._process.wait(_GRACE)
        except (OSError, subprocess.TimeoutExpired):
            pass  # it is killed below
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the process and all that it started, without a word."""
        if self._printed.closed:
            return  # the number may be another process's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what it did not read any more
            self._process.stdin.close()
        self._selector.close()
        self._process.stdout.close()
        self._printed.close()

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        until = time.monotonic() + self._patience
        received = b""
        while not received.endswith(b"\n"):
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise FailedError(f"gave no answer within {self._patience:g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise self._died()
            received += part
        return json.loads(received)

    def _died(self) -> FailedError:
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return FailedError("closed its output")
        self._printed.seek(0)
        text = self._printed.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = " | ".join(lines[-_LAST:]) or "it printed nothing"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code}"
        return FailedError(f"{how}: {last}")
