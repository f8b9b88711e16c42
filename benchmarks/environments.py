"""Virtual environments of peers that conflict with what is installed, or are not installed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from benchmarks.plan import Environment, Side
from pipeline import files

_READY = "ready.json"


class UnavailableError(Exception):
    """A side cannot run here; the message says why."""


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder for environments, which may be removed at any time."""
    caches = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches, "keras_resnet", "benchmarks")


def interpreter(
    side: Side, gpus: int, folder: Path, tell: Callable[[str], None] = lambda text: None
) -> Path:
    """Returns the Python that is to run a side; installs its environment if that is missing.

    Args:
        side: What is to run.
        gpus: How many NVIDIA GPUs there are.
        folder: Of the environments.
        tell: Is told of an installation that begins.

    Raises:
        UnavailableError: If there is no GPU and it needs one, if a module is missing and no
            environment would bring it, or if the environment cannot be installed.
    """
    if side.gpu and not gpus:
        raise UnavailableError("needs an NVIDIA GPU; nvidia-smi reports none")
    missing = [name for name in side.needs if find_spec(name) is None]
    here = side.environment is None or (bool(side.needs) and not missing)
    if missing and side.environment is None:
        raise UnavailableError(f"needs {', '.join(missing)}, which cannot be imported")
    return Path(sys.executable) if here else install(side.environment, folder, tell)


def install(
    environment: Environment, folder: Path, tell: Callable[[str], None] = lambda text: None
) -> Path:
    """Returns the Python of an environment, which is made unless it is there.

    Raises:
        UnavailableError: If it cannot be made, with the last line of pip.
    """
    wanted = {
        "base": f"{sys.prefix} {sys.version}",
        "requirements": list(environment.requirements),
        "own": environment.own,
        "pip": list(environment.pip),
    }
    # Another version of the same environment lies beside it.
    mark = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:12]
    place = folder / f"{environment.name}-{mark}"
    python = place / "bin" / "python"
    if (place / _READY).exists() and python.exists():
        return python
    tell(f"installing {', '.join(environment.requirements)} into {place}")
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run([sys.executable, "-m", "venv", str(place)])
        if not environment.own:
            _show_installed(python)
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        pip = [str(python), "-m", "pip", "install", *quiet, *environment.pip]
        _run([*pip, *environment.requirements])
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    files.write_json(place / _READY, wanted)
    return python


def _show_installed(python: Path) -> None:
    """Lets an environment see what is installed in the running one, behind its own packages."""
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    inside = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    paths = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    Path(inside, "running.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        # pip says the error first, and then how to get a newer pip.
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no word"]
        raise UnavailableError(f"its environment cannot be installed: {errors[-1]}")
