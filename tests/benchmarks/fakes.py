"""Sides whose figures are known, for the tests of the harness; the standard library suffices."""

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.plan import Aim, Benchmark, Case, Prepare, Side, Turn

TARGET = "tests.benchmarks.fakes:"


class Told:
    """Does what it was told in the time that it was told, and writes down that it was asked.

    Args:
        items: Units of a turn.
        wall: Seconds of each turn, one after the other, the uncounted first one included.
        log: File to which every turn adds `mark`.
        mark: A word.
        cpu: CPU seconds of every turn.
    """

    def __init__(self, items, wall, log=None, mark="", cpu=1.0):
        self._items, self._wall, self._cpu = items, list(wall), cpu
        self._log, self._mark = log and Path(log), mark

    def run(self):
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{self._mark}\n")
        print("what a side prints is no answer")
        figures = {"process": os.getpid()}
        return Turn(self._items, wall=self._wall.pop(0), cpu=self._cpu, figures=figures)


class Busy:
    """Computes for a while, in its own process and in one that it starts."""

    def __init__(self, seconds):
        self._seconds = seconds

    def run(self):
        child = os.fork()
        end = time.process_time() + self._seconds
        while time.process_time() < end:
            pass
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return 1


class DiesWhenMade:
    """Is never there."""

    def __init__(self):
        raise RuntimeError("there is no such network")


class Dies:
    """Does `good` turns, and then ends in the way that `how` says."""

    def __init__(self, how, good=0):
        self._how, self._good = how, good

    def run(self):
        self._good -= 1
        if self._good >= 0:
            return Turn(1, wall=1.0, cpu=1.0)
        if self._how == "exit":
            print("first word\nthe disk is full", file=sys.stderr)
            sys.stderr.flush()
            os._exit(3)
        if self._how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "nothing":
            return 0
        time.sleep(600)
        return 1


class Reads:
    """Tells how many bytes are in the prepared folder."""

    def __init__(self, folder):
        self._folder = folder

    def run(self):
        size = sum(path.stat().st_size for path in self._folder.iterdir())
        return Turn(size, wall=1.0, cpu=1.0)


class Waits:
    """Says where its process is, then takes its time."""

    def __init__(self, where):
        Path(where).write_text(str(os.getpid()))

    def run(self):
        time.sleep(600)
        return 1


def fill(folder, size):
    """Prepares data; counts how often."""
    with (folder.parent.parent / "prepared").open("a") as file:
        file.write("once\n")
    (folder / "data").write_bytes(bytes(size))


def fill_not(folder):
    """Prepares nothing."""
    raise OSError("no space left")


def told(name, items, wall, **options):
    """Returns a side."""
    arguments = {"items": items, "wall": wall, **options.pop("arguments", {})}
    return Side(name, f"{TARGET}Told", arguments, **options)


def benchmark(*cases, name="fake"):
    """Returns a benchmark of these cases."""
    return Benchmark(name, "Which of two is faster?", lambda quick: cases)


def two(**options):
    """Returns a case in which ours is twice, four times and three times as fast as the peer."""
    sides = (
        told("ours", 8, [9, 1, 1, 2]),
        told("peer", 4, [9, 1, 2, 3], aim=Aim(ratio=2.5)),
    )
    return Case("a case", "images", sides, **{"rounds": 3, **options})


def prepared(name, size, **options):
    """Returns a case whose only side reads prepared data."""
    data = Prepare(f"{TARGET}fill", {"size": size})
    return Case(name, "bytes", (Side("reads", f"{TARGET}Reads"),), prepare=data, **options)
