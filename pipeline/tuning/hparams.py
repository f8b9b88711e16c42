"""The trials of a search for TensorBoard's plugin for hyperparameters."""

from pathlib import Path

from tensorboard.plugins.hparams import api, api_pb2, summary

from pipeline.training.events import Events
from pipeline.training.telemetry import flattened
from pipeline.tuning.trial import Record, State, Trial

_STATUSES: dict[State, int] = {
    "COMPLETED": api_pb2.STATUS_SUCCESS,
    "FAILED": api_pb2.STATUS_FAILURE,
    "STOPPED": api_pb2.STATUS_UNKNOWN,
    "RUNNING": api_pb2.STATUS_RUNNING,
}


def write(record: Record, directory: Path) -> None:
    """Writes one session for each trial, with its values, every epoch and what came out.

    Trials that only differ in their seed are one group, of which the plugin shows the mean. What
    was rejected before it was trained has no session.

    Args:
        record: The search.
        directory: Receives a directory for each trial, named after it; what an earlier call left
            in one of them is replaced.
    """
    for trial in record.trials:
        if trial.state in _STATUSES:
            _write(trial, record.objective, directory / trial.id)


def _write(trial: Trial, objective: str, directory: Path) -> None:
    events = Events(directory, 0)
    try:
        events.add(
            api.hparams_pb(
                flattened(trial.values),
                trial_id=trial.repeats or trial.id,
                start_time_secs=trial.begin,
            )
        )
        for epoch, value in enumerate(trial.objective, trial.first_epoch + 1):
            if value is not None:
                events.scalar(objective, value, epoch)
        last = trial.first_epoch + len(trial.objective)
        for name, value in _results(trial).items():
            events.scalar(f"final/{name}", value, last)
        if trial.ended:
            status = _STATUSES[trial.state]
            events.add(summary.session_end_pb(status, trial.begin + trial.seconds))
    finally:
        events.close()


def _results(trial: Trial) -> dict[str, float]:
    """Returns what came out of a trial and what it cost, by name."""
    found = {
        **trial.figures,
        "score": trial.score,
        "seconds": trial.seconds,
        "parameters": trial.parameters,
        "macs": trial.macs,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
