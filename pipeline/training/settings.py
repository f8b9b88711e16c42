"""The effective setting of everything: what was asked for, what was found out, and why."""

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import tensorflow as tf

from pipeline.components.trainer import CUSTOM, Parameters
from pipeline.errors import UsageError
from pipeline.training import initialization, strategy
from pipeline.training.inputs import Images
from pipeline.training.precision import Precision
from pipeline.training.preprocessing import Preprocessing

STRATEGIES = {
    strategy.MIRRORED: "MirroredStrategy",
    strategy.ONE_DEVICE: "OneDeviceStrategy",
    strategy.MULTI_WORKER: "MultiWorkerMirroredStrategy",
}
_LIBRARIES = ("tensorflow", "keras", "numpy")
_MIB = 1 << 20


@dataclass(frozen=True)
class Xla:
    """Whether XLA compiles the step, and why."""

    on: bool
    reason: str


def xla(asked: bool | None, gpu: bool, synchronized: bool) -> Xla:
    """Returns whether XLA is used.

    Args:
        asked: What the parameters say.
        gpu: Whether there is a GPU: on CPUs oneDNN's operations are faster.
        synchronized: Whether batch normalisation communicates between replicas.

    Raises:
        UsageError: It is asked for, and cannot be.
    """
    if asked and synchronized and not gpu:
        raise UsageError(
            "trainer.xla true: on CPUs XLA cannot synchronise batch normalisation over replicas; "
            "set trainer.bn_synchronized to false or leave trainer.xla out"
        )
    if asked is not None:
        return Xla(asked, "as configured")
    if not gpu:
        return Xla(False, "no GPU")
    if synchronized:
        return Xla(False, "batch normalisation is synchronised")
    return Xla(True, "GPU")


def effective(
    chosen: tf.distribute.Strategy,
    parameters: Parameters,
    precision: Precision,
    compiled: Xla,
    *,
    deterministic: bool,
    synchronized: bool,
    expected: Preprocessing,
    steps_per_epoch: int,
    images: dict[str, Images],
) -> dict[str, Any]:
    """Returns the settings as JSON values.

    Args:
        chosen: The strategy.
        parameters: Those of Trainer.
        precision: What the network computes in.
        compiled: Whether XLA compiles the step.
        deterministic: Whether operations are held to be deterministic.
        synchronized: Whether batch normalisation is synchronised.
        expected: What the network expects of its input.
        steps_per_epoch: Steps in an epoch.
        images: The pictures of each split.
    """
    replicas = chosen.num_replicas_in_sync
    return {
        "strategy": STRATEGIES[parameters.strategy],
        "workers": strategy.workers(chosen),
        "replicas": replicas,
        "devices": list(map(_short, chosen.extended.worker_devices)),
        "precision": asdict(precision),
        "xla": asdict(compiled),
        "deterministic": deterministic,
        "batch_normalization": _batch_normalization(parameters, replicas, synchronized),
        "batch_size": parameters.batch_size,
        "batch_per_replica": parameters.batch_size // replicas,
        "steps": steps_per_epoch * parameters.epochs,
        "steps_per_epoch": steps_per_epoch,
        "steps_per_loop": parameters.steps_per_loop,
        "begins_with": initialization.described(parameters),
        "mean": list(expected.mean),
        "std": list(expected.std),
        "images": {name: len(found) for name, found in images.items()},
        "input": {name: _input(found) for name, found in images.items()},
        "checkpoints": {
            "seconds": parameters.checkpoint_seconds,
            "steps": parameters.checkpoint_steps,
            "keep_last": parameters.keep_last,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _LIBRARIES},
        },
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Returns the settings in lines for a person."""
    replicas, workers = found["replicas"], found["workers"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    counts = ", ".join(
        f"{found['images'][name]:,} {name} images {how}" for name, how in found["input"].items()
    )
    return [
        (
            f"{found['strategy']} with {replicas} replica{'s' if replicas > 1 else ''}, "
            f"{found['precision']['policy']}, batch {found['batch_size']}, {found['steps']:,} steps"
        ),
        (
            f"  {', '.join(found['devices'])}{f' in each of {workers} workers' if workers > 1 else ''}"
            f", {found['batch_per_replica']} images per replica and step; batch normalisation "
            f"{found['batch_normalization']}"
        ),
        (
            f"  precision: {found['precision']['reason']}; XLA {'on' if found['xla']['on'] else 'off'}"
            f" ({found['xla']['reason']}); "
            f"{'deterministic' if found['deterministic'] else 'not deterministic'}"
        ),
        f"  begins with {found['begins_with']}",
        f"  {counts}",
        f"  {versions}",
    ]


def _batch_normalization(parameters: Parameters, replicas: int, synchronized: bool) -> str:
    if replicas == 1:
        return "over the batch"
    if CUSTOM in parameters.model:
        return "as the network has it, moving statistics averaged over the replicas"
    if synchronized:
        return "synchronised over the replicas"
    return "over each replica's own part, moving statistics averaged"


def _input(images: Images) -> str:
    if images.cached:
        return f"decoded in memory ({images.decoded_bytes / _MIB:.1f} MiB)"
    if images.decoded_bytes is None:
        return "cut out and decoded each time"
    return f"decoded each time ({images.decoded_bytes / _MIB:,.0f} MiB would not fit)"


def _short(device: str) -> str:
    """Returns `GPU:0` of a device's long name."""
    return ":".join(device.rsplit(":", 2)[-2:])
