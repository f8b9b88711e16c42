"""A worker of a search: a process that does one trial after the other, until there are none left.

It loads TensorFlow once. When a trial has failed in a way that may have left traces, such as an
exhausted memory, it ends, and the chief starts another one. When the chief dies, so does it.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline import files, quiet
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.orchestration.artifact import Artifact
from pipeline.tuning.channel import GoneError, Worker
from pipeline.tuning.parameters import Parameters
from pipeline.tuning.trial import Trial

# The exit code of one that wants to be replaced.
AGAIN = 3
_POLL = 0.1
# Trials after which a process is replaced: each leaves some memory behind, about 25 MB of a ResNet.
_MOST = 40

Train = Callable[..., Mapping[str, float]]


class _Reports:
    """Passes on what is known of a trial."""

    def __init__(self, chief: Worker, number: str):
        self._chief = chief
        self._number = number

    def measured(self, parameters: int, macs: int | None) -> None:
        self._chief.call("measured", number=self._number, parameters=parameters, macs=macs)

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._chief.call("epoch", number=self._number, epoch=epoch, figures=_numbers(figures))


def attend(job: Mapping[str, Any], train: Train) -> int:
    """Does trials until there are none left; returns the exit code of the process.

    Args:
        job: What `chief.Job.described` returns.
        train: Does a trial; `execution.train` says how.
    """
    state = Path(job["state"])
    parameters = TypeAdapter(Parameters).validate_python(job["parameters"])
    try:
        chief = Worker(job["chief"], job["secret"], job["name"], _die)
        done = 0
        while True:
            found = chief.call("next")
            if found == "stop":
                chief.close()
                return 0
            if found == "wait":
                time.sleep(_POLL)
                continue
            done += 1
            if not _do(chief, found, train, job, parameters, state) or done == _MOST:
                chief.close()
                return AGAIN
    except GoneError:
        return 1


def _do(
    chief: Worker,
    found: Mapping[str, Any],
    train: Train,
    job: Mapping[str, Any],
    parameters: Parameters,
    state: Path,
) -> bool:
    """Does one trial, and returns whether this process is fit for another one."""
    from pipeline.tuning.execution import RejectedError, TimeOverError

    trial = TypeAdapter(Trial).validate_python(found["trial"])
    inputs = {
        key: Artifact(**{**described, "uri": Path(described["uri"])})
        for key, described in job["inputs"].items()
    }
    left, begin = found["left"], time.monotonic()

    def remaining() -> float:
        return float("inf") if left is None else left - (time.monotonic() - begin)

    def end(how: str, reason: str = "", figures: Mapping[str, float] | None = None) -> None:
        figures = _numbers(figures or {})
        chief.call("end", number=trial.id, state=how, figures=figures, reason=reason)

    print(f"\n{trial.id}: {json.dumps(trial.values)}", flush=True)
    try:
        figures = train(
            trial,
            inputs,
            parameters,
            state / "trials" / found["folder"],
            _Reports(chief, trial.id),
            remaining,
        )
    except (RejectedError, UsageError) as error:
        end("REJECTED", str(error))
    except TimeOverError:
        end("STOPPED", "the time of the search was over")
    except (GoneError, Stopped):
        raise
    except PipelineError as error:
        end("FAILED", str(error))
        return False
    except Exception as error:  # noqa: BLE001  whatever it is, it is the trial's
        end("FAILED", f"{type(error).__name__}: {error}")
        return False
    else:
        end("COMPLETED", figures=figures)
    return True


def _numbers(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


def _die() -> None:
    # Nobody waits for what this process does, but the next chief waits for its end.
    os.kill(os.getpid(), signal.SIGKILL)


def forgetting(train: Train) -> Train:
    """Returns `train` such that no trial leaves anything in the memory of the process."""

    def trained(*arguments: Any) -> Mapping[str, float]:
        import keras

        try:
            return train(*arguments)
        finally:
            keras.utils.clear_session(free_memory=False)
            gc.collect()

    return trained


def main(train: Train | None = None) -> int:
    """The process: reads its job, and attends the chief.

    Args:
        train: Does a trial; None for the training loop.
    """
    quiet.tensorflow()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # Modules of a person's own lie where the chief found them.
    sys.path += [folder for folder in job["path"] if folder not in sys.path]
    if job["cores"]:
        os.sched_setaffinity(0, job["cores"])
    # Held until this process is gone, whatever ends it: nobody else works on its trial meanwhile.
    with files.shared(Path(job["state"]) / "workers.lock"):
        if train is None:
            from pipeline.tuning import execution

            train = forgetting(execution.train)
        try:
            return attend(job, train)
        except Stopped:
            return Stopped.exit_code
        except KeyboardInterrupt:
            return 130


def _die_with_parent() -> None:
    sys.stdin.read()
    _die()


if __name__ == "__main__":
    sys.exit(main())
