"""The files that Tuner leaves, as TFX writes them, and what Trainer takes from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.errors import DataError
from pipeline.tuning import space
from pipeline.tuning.trial import BEST, RESULTS, Trial


def write_best(directory: Path, config: Mapping[str, Any]) -> None:
    """Writes `best_hyperparameters.txt`.

    Args:
        directory: That of the artifact.
        config: What `keras_tuner.HyperParameters.get_config` returns.
    """
    files.write_json(directory / BEST, config)


def write_results(directory: Path, trials: Sequence[Trial]) -> None:
    """Writes `tuner_results.json`: number, score and values of the trials that have a score."""
    found = [
        {"trial_id": trial.id, "score": trial.score, **trial.values}
        for trial in trials
        if trial.score is not None
    ]
    files.write_json(directory / RESULTS, found)


def values(directory: Path) -> dict[str, Any]:
    """Returns the values of `best_hyperparameters.txt`, as the fields of Trainer have them.

    Keras Tuner has texts and numbers alone: where all that a choice is from is JSON, such as
    `"[2, 2, 2]"`, what it stands for is meant.

    Args:
        directory: That of the artifact.

    Raises:
        DataError: The file is not what Keras Tuner writes.
    """
    path = directory / BEST
    try:
        config = json.loads(path.read_bytes())
        coded = {one["config"]["name"] for one in config["space"] if _is_json(one)}
        # What begins like this is Hyperband's own.
        own = {name: value for name, value in config["values"].items() if "/" not in name}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: holds no hyperparameters of Keras Tuner ({type(error).__name__}: {error}); "
            "run Tuner again"
        ) from None
    return {
        name: json.loads(value) if name in coded and isinstance(value, str) else value
        for name, value in own.items()
    }


def applied(parameters: TrainerParameters, directory: Path) -> TrainerParameters:
    """Returns Trainer's parameters with the best values.

    Args:
        parameters: Those of the configuration.
        directory: The artifact of type HyperParameters.

    Raises:
        DataError: It is not what Tuner writes.
        UsageError: The values are not allowed together with the rest.
    """
    return space.apply(parameters, values(directory))


def _is_json(entry: Mapping[str, Any]) -> bool:
    texts = entry["config"].get("values", ())
    try:
        return bool([json.loads(text) for text in texts])
    except (TypeError, ValueError):  # a number, or a word
        return False
