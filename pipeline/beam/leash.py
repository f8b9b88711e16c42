"""Runs a command that must not outlive the process that began it: `python -m pipeline.beam.leash CMD`.

The job server of Beam is a Java process, which a driver that is killed would leave behind for ever.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

_POLL = 1.0
_PATIENCE = 3.0


def main(command: list[str]) -> int:
    """Runs `command` and returns its exit status; ends it when the parent of this process is gone."""
    parent = os.getppid()
    received: list[int] = []
    asked = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    child = subprocess.Popen(command)

    def watch() -> None:
        while os.getppid() == parent and not asked.wait(_POLL):
            pass
        child.send_signal(received[0] if received else signal.SIGTERM)
        # Beam loses its own patience with this process after five seconds.
        time.sleep(_PATIENCE)
        child.kill()

    threading.Thread(target=watch, name="watch the parent", daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
