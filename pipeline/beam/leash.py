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
_PATIENCE = 5.0


def main(command: list[str]) -> int:
    """Runs `command` and returns its exit status; ends it when the parent of this process is gone."""
    parent = os.getppid()
    child = subprocess.Popen(command)

    def end(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        child.terminate()
        time.sleep(_PATIENCE)
        child.kill()

    threading.Thread(target=watch, name="watch the parent", daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
