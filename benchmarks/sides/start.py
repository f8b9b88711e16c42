"""Starting: processes that import, and networks that are built."""

import subprocess
import sys


class Python:
    """A Python process from its start to its end.

    Args:
        code: What it runs.
    """

    def __init__(self, code: str):
        self._command = [sys.executable, "-c", code]

    def run(self) -> int:
        subprocess.run(self._command, check=True)
        return 1
