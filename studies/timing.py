"""How long a training step takes, of networks that take turns."""

import time
from collections.abc import Sequence

import keras
import numpy as np

from studies.data import Data
from studies.work import on_cpu

_WARM_UP = 2


def step_seconds(
    models: Sequence[keras.Model], data: Data, batch: int, steps: int
) -> list[list[float]]:
    """Returns the seconds of each step, for each network.

    The steps of the networks alternate, so that other load on the machine falls on all. Without an
    accelerator these are CPU seconds of the whole process, which such load hardly changes; with
    one, seconds of the clock.

    Args:
        models: Compiled, for targets `(examples, classes)`.
        data: Whose first images are taken, again and again.
        batch: Images of a step.
        steps: Of each network, beside those that warm up.
    """
    chosen = np.resize(np.arange(len(data.train.labels)), batch)
    images = data.train.images[chosen].astype("float32") / 128 - 1
    targets = np.eye(data.classes, dtype="float32")[data.train.labels[chosen]]
    clock = time.process_time if on_cpu() else time.perf_counter
    seconds: list[list[float]] = [[] for _ in models]
    for model in models:
        for _ in range(_WARM_UP):
            model.train_on_batch(images, targets)
    for _ in range(steps):
        for model, own in zip(models, seconds, strict=True):
            begin = clock()
            # It returns numbers, so that the device is done.
            model.train_on_batch(images, targets)
            own.append(clock() - begin)
    return seconds


def clock_name() -> str:
    """Returns what the seconds are, for the page."""
    return "CPU seconds" if on_cpu() else "seconds"
