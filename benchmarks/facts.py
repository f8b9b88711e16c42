"""What figures depend on: the machine, the versions and the commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import machine

_ROOT = Path(__file__).parents[1]
# Instruction sets that decide how fast a convolution is.
_DECIDING = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16")
_DISTRIBUTIONS = ("keras", "tensorflow", "jax", "numpy", "apache-beam")


def of_machine(gpus: list[machine.Gpu], root: Path = Path("/")) -> dict[str, Any]:
    """Returns processor, instruction sets, cores, memory, GPUs and system; `root` as in machine."""
    name, flags = machine.processor(root)
    found = machine.memory(root)
    return {
        "processor": name,
        "flags": [flag for flag in _DECIDING if flag in flags],
        "cores": machine.cores(root).usable,
        "memory": None if found is None else found.limit or found.total,
        "gpus": [{"name": gpu.name, "mebibytes": gpu.memory} for gpu in gpus],
        "system": platform.platform(),
    }


def load() -> list[float]:
    """Returns the load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def versions() -> dict[str, str]:
    """Returns the versions of Python and of what is installed here of what figures depend on."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(root: Path = _ROOT) -> dict[str, Any] | None:
    """Returns `hash` and whether files differ from it, `changed`; None outside of a clone."""
    hash_ = _git(root, "rev-parse", "HEAD")
    if hash_ is None:
        return None
    return {"hash": hash_, "changed": bool(_git(root, "status", "--porcelain", "-uno"))}


def words(found: dict[str, Any]) -> str:
    """Returns the machine of `of_machine` in a line for people."""
    parts = [found["processor"]]
    if found["flags"]:
        parts[0] += f" ({', '.join(found['flags'])})"
    parts.append(f"{found['cores']} core{'s' if found['cores'] != 1 else ''}")
    if found["memory"]:
        parts.append(f"{found['memory'] / 2**30:.0f} GiB")
    parts += [f"{gpu['name']} with {gpu['mebibytes'] / 1024:.0f} GiB" for gpu in found["gpus"]]
    return ", ".join(parts)


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
