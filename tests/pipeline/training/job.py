"""A training in a process of its own, to be killed: `python -m tests.pipeline.training.job JOB`.

JOB is a JSON file with `examples`, `state` and `outputs` (may be empty), `parameters` and `bad_step`,
a step that is spoiled until there was a rollback, or null. What comes out is the SHA-256 of all weights, or the error as the command line shows it.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Stochastic depth and dropout draw from seed generators, the average has variables of its own.
PARAMETERS = {
    "model": "cifar_resnet20",
    "model_arguments": {
        "depths": [1, 1, 1],
        "widths": [4, 4, 4],
        "stem_width": 4,
        "drop_path_rate": 0.3,
        "dropout_rate": 0.2,
    },
    "image_size": [8, 8],
    "mean": [100.0, 100.0, 100.0],
    "std": [60.0, 60.0, 60.0],
    "precision": "float32",
    "batch_size": 8,
    "epochs": 10,
    "learning_rate": 0.05,
    "ema_decay": 0.9,
    "random_shift": 1,
    "random_flip": True,
    "steps_per_loop": 3,
    "checkpoint_steps": 6,
}


def start(
    folder: Path,
    examples: Path,
    state: Path | str,
    *,
    outputs: Path | str = "",
    bad_step: int | None = None,
    environment: Any = (),
    **parameters: Any,
) -> subprocess.Popen:
    """Starts the process; what it prints can be read from it."""
    folder.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".json", delete=False) as file:
        job = {
            "examples": str(examples),
            "state": str(state),
            "outputs": str(outputs),
            "bad_step": bad_step,
        }
        json.dump({**job, "parameters": PARAMETERS | parameters}, file)
    return subprocess.Popen(
        [sys.executable, "-m", __name__, file.name],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", **dict(environment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen, timeout: float = 120) -> list[str]:
    """Waits for a process that has to end well, and returns the lines that it printed."""
    output, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, f"{output}\n{errors}"
    return output.splitlines()


def _main(path: str) -> int:
    from pydantic import TypeAdapter

    from pipeline.components.trainer import Parameters
    from pipeline.errors import PipelineError
    from pipeline.orchestration.artifact import Context

    job = json.loads(Path(path).read_text())
    parameters = TypeAdapter(Parameters).validate_python(job["parameters"])
    context = Context(
        "job",
        progress=lambda done, total, **figures: print(f"step {done}", flush=True),
        say=lambda line: print(line, flush=True),
        state=Path(job["state"]) if job["state"] else None,
    )
    if job["bad_step"]:
        _spoil(job["bad_step"], Path(job["state"]) / "checkpoints" / "rollbacks.json")
    train = _train_with_others if parameters.strategy == "multi_worker" else _train
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(Path(job["examples"]), parameters, context, Path(job["outputs"] or folder))
    except PipelineError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _spoil(step: int, rollbacks: Path) -> None:
    """Makes the loss of a step NaN, until there was a rollback."""
    from pipeline.training import inputs

    plan = inputs._plan

    def spoiled(rows: Any, places: Any, number: int, weights: Any = None) -> tuple:
        rows, weights, steps, places = plan(rows, places, number, weights)
        if number == step - 1 and not rollbacks.exists():
            weights = weights * float("nan")
        return rows, weights, steps, places

    inputs._plan = spoiled


def _train(examples: Path, parameters: Any, context: Any, folder: Path) -> None:
    """Trains in this process, and prints figures and digest."""
    from pipeline.records import manifest
    from pipeline.training import session
    from pipeline.training.preprocessing import Preprocessing

    height, width = parameters.image_size
    expected = Preprocessing(height=height, width=width, mean=parameters.mean, std=parameters.std)
    contents = manifest.load(examples)
    trained = session.train(examples, contents, parameters, expected, folder, context)
    trained.figures.pop("input_wait", None)  # the one that differs from run to run
    print(json.dumps([trained.epoch, trained.figures]))
    weights = b"".join(weight.numpy().tobytes() for weight in trained.model.weights)
    print(hashlib.sha256(weights).hexdigest(), flush=True)


def _train_with_others(examples: Path, parameters: Any, context: Any, folder: Path) -> None:
    """Does what the runner does with one of several workers."""
    from pipeline.components import trainer
    from pipeline.orchestration.artifact import Artifact

    outputs = {name: Artifact(kind, folder / name) for name, kind in trainer.OUTPUTS.items()}
    for output in outputs.values():
        output.uri.mkdir(parents=True)
    inputs = {"examples": Artifact("Examples", examples)}
    print(trainer.run(inputs, outputs, parameters, context).result)
    print(json.dumps(outputs["model"].properties), flush=True)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
