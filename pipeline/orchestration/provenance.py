"""Which commit of the code runs."""

import functools
import subprocess
from pathlib import Path

_PATIENCE = 10.0


@functools.cache
def commit(folder: Path = Path(__file__).parent) -> str:
    """Returns the commit of the repository that holds the code.

    Args:
        folder: Where the code lies.

    Returns:
        The commit in hexadecimal, with `-dirty` behind it where files differ from it; nothing where
        the code is in no repository, or there is no git.
    """
    # An installed package may lie in somebody else's repository, ignored by it.
    if not _git(folder, "ls-files", "--", Path(__file__).name):
        return ""
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str:
    """Returns what git prints, or nothing where it cannot."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
