"""The process of a side: makes it, then does a turn for each line that it reads.

    python -m benchmarks.side

The first line on standard input is JSON with `target`, `arguments` and `folder`; each later line
asks for a turn. Every answer is one line of JSON. What the side prints goes to standard error. It
needs the standard library only, since it runs in the environments of the peers, too.
"""

import importlib
import json
import os
import re
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

# Modules whose versions a figure depends on, with the name of their distribution.
_TOLD = {
    "apache_beam": "apache-beam",
    "jax": "jax",
    "keras": "keras",
    "keras_hub": "keras-hub",
    "numpy": "numpy",
    "PIL": "Pillow",
    "tensorflow": "tensorflow",
    "tensorflow_datasets": "tensorflow-datasets",
    "timm": "timm",
    "torch": "torch",
}


def main() -> None:
    """Serves turns until standard input ends."""
    # The real standard input and output are for orders and answers alone, not for what it starts.
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    order = json.loads(orders.readline())
    module, _, name = order["target"].partition(":")
    begin = time.perf_counter()
    arguments = dict(order["arguments"])
    if order["folder"]:
        arguments["folder"] = Path(order["folder"])
    made = getattr(importlib.import_module(module), name)(**arguments)
    answer({"seconds": time.perf_counter() - begin, "versions": versions()})
    for _ in orders:
        answer(measured(made))
    if hasattr(made, "close"):
        made.close()


def measured(side: Any) -> dict[str, Any]:
    """Does a turn and returns its record.

    Returns:
        `items`; `wall` and `cpu`, seconds, the latter of all threads, of processes that the turn
        started, and of those that live on; `memory`, the peak in bytes since the side began;
        `gpu_memory`, None without; `figures`.
    """
    wall, cpu = time.perf_counter(), cpu_seconds()
    done = side.run()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    plain = isinstance(done, (int, float))
    record = {
        "items": done if plain else done.items,
        "wall": wall if plain or done.wall is None else done.wall,
        "cpu": cpu if plain or done.cpu is None else done.cpu,
        "memory": peak_memory(),
        "gpu_memory": side.gpu_memory() if hasattr(side, "gpu_memory") else None,
        "figures": {} if plain else dict(done.figures),
    }
    if min(record["items"], record["wall"], record["cpu"]) <= 0:
        raise ValueError(f"A turn must do something and take time. Received: {record}")
    return record


def cpu_seconds() -> float:
    """Returns the CPU time of this process and of all that it started, living or not."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    ticks = os.sysconf("SC_CLK_TCK")
    for process in descendants():
        try:
            text = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            continue  # it ended meanwhile, and its parent has its time
        # The name, in parentheses, may hold anything; utime, stime, cutime, cstime follow it.
        fields = text.rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / ticks
    return total


def peak_memory() -> int:
    """Returns the peak of the resident memory in bytes.

    That of this process and of those that it started and that still live, together; or of the
    largest single one that has ended, if it had more.
    """
    ended = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = _high_water("self")
    if not own:  # no Linux
        unit = 1 if sys.platform == "darwin" else 1024
        own = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own + sum(_high_water(process) for process in descendants()), ended)


def _high_water(process: int | str) -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def descendants() -> list[int]:
    """Returns the processes that this one has started, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, left = [], [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def versions() -> dict[str, str]:
    """Returns the versions of what this process has imported and a figure depends on."""
    told = {"python": sys.version.split()[0]}
    for module, distribution in _TOLD.items():
        if module in sys.modules:
            try:
                told[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                told[distribution] = str(getattr(sys.modules[module], "__version__", "unknown"))
    return told


if __name__ == "__main__":
    main()
