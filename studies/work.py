"""A study's work: named runs, each of which leaves a record, so that it need not be done again."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import keras

from studies import files
from studies.data import Data
from studies.errors import Stopped


class View(Protocol):
    """Who is told how far the work is."""

    def begin(self, name: str, share: float) -> None:
        """A run begins; `share` of the work is done."""

    def progress(self, name: str, share: float, text: str) -> None:
        """A run goes on; `share` of all the work is done."""

    def reused(self, name: str) -> None:
        """A run was done before."""


@dataclass(frozen=True)
class Setting:
    """What a study is run with.

    Args:
        data: The images.
        seeds: One training for each.
        quick: Whether it is to end within minutes.
    """

    data: Data
    seeds: tuple[int, ...]
    quick: bool

    @property
    def seeds_told(self) -> str:
        """`1 seed` or `3 seeds`."""
        return f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"


class Desk:
    """Where a run works.

    Args:
        checkpoint: File of its state while it is not done.
        logs: Folder for TensorBoard.
        report: Takes the share of the run that is done, and a line on it.
        deadline: When to stop, as `time.monotonic` tells it; None for never.
    """

    def __init__(
        self,
        checkpoint: Path,
        logs: Path,
        report: Callable[[float, str], None] = lambda share, text: None,
        deadline: float | None = None,
    ):
        self.checkpoint, self.logs = checkpoint, logs
        self._report, self._deadline = report, deadline

    def progress(self, share: float, text: str) -> None:
        """Tells that `share` of the run is done.

        Raises:
            Stopped: If the time is over and the run is not done.
        """
        self._report(share, text)
        if self._deadline is not None and time.monotonic() > self._deadline and share < 1:
            raise Stopped(f"The time is over ({text}); the same command goes on from here.")


@dataclass(frozen=True)
class Run:
    """One piece of a study.

    Args:
        name: Of its record; within a study no two runs have the same.
        settings: All that its result depends on beside the data, as JSON.
        perform: Does it, and returns what JSON can hold.
        cost: How long it takes, in any unit that the runs of a study share.
    """

    name: str
    settings: dict[str, Any]
    perform: Callable[[Data, Desk], dict[str, Any]]
    cost: float = 1.0


def carry_out(
    runs: Sequence[Run],
    setting: Setting,
    folder: Path,
    view: View,
    deadline: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Performs the runs that have no record yet.

    A record counts where settings, data and backend are those of the run.

    Args:
        runs: In the order in which to do them.
        setting: What they are run with.
        folder: Of the study: `records`, `checkpoints` and `logs` are in it.
        view: Who is told.
        deadline: As of `Desk`.

    Returns:
        The records by name: `settings`, `environment`, `seconds` and `result`.

    Raises:
        Stopped: If the deadline has passed.
        UsageError: If a record cannot be read.
    """
    records: dict[str, dict[str, Any]] = {}
    total = sum(run.cost for run in runs)
    left = []
    for run in runs:
        found = files.read_json(folder / "records" / f"{run.name}.json")
        if found is not None and found["settings"] == _all_settings(run, setting):
            records[run.name] = found
            view.reused(run.name)
        else:
            left.append(run)
    done = total - sum(run.cost for run in left)
    for run in left:
        view.begin(run.name, done / total)
        records[run.name] = _performed(run, setting, folder, view, deadline, done, total)
        done += run.cost
        view.progress(run.name, done / total, "done")
        if deadline is not None and time.monotonic() > deadline and run is not left[-1]:
            raise Stopped(f"The time is over after {run.name}; the same command goes on from here.")
    return {run.name: records[run.name] for run in runs}


def _performed(
    run: Run,
    setting: Setting,
    folder: Path,
    view: View,
    deadline: float | None,
    done: float,
    total: float,
) -> dict[str, Any]:
    def report(share: float, text: str) -> None:
        view.progress(run.name, (done + share * run.cost) / total, text)

    checkpoint = folder / "checkpoints" / f"{run.name}.npz"
    desk = Desk(checkpoint, folder / "logs" / run.name, report, deadline)
    begin = time.perf_counter()
    result = run.perform(setting.data, desk)
    record = {
        "settings": _all_settings(run, setting),
        "environment": environment(),
        "seconds": time.perf_counter() - begin,
        "result": result,
    }
    files.write_json(folder / "records" / f"{run.name}.json", record)
    checkpoint.unlink(missing_ok=True)
    return record


def _all_settings(run: Run, setting: Setting) -> dict[str, Any]:
    data = {"name": setting.data.name, "checksum": setting.data.checksum}
    return {**run.settings, "data": data, "backend": keras.config.backend()}


def environment() -> dict[str, str]:
    """Returns what the times of a record depend on."""
    backend = keras.config.backend()
    return {
        "backend": f"{backend} {metadata.version(backend)}",
        "keras": keras.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "device": _device(),
        "cores": str(len(os.sched_getaffinity(0))),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def on_cpu() -> bool:
    """Whether there is no accelerator."""
    return all(device.startswith("cpu") for device in keras.distribution.list_devices())


def _device() -> str:
    found = keras.distribution.list_devices()
    return ", ".join(found) or "cpu"
