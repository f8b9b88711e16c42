"""Measures a step of the training loop against `fit` of Keras: same network, batch and precision.

    python -m benchmarks.training_step [--model cifar_resnet20] [--batch 128] [--precision float32]

One device, no telemetry, data in memory; both read from a tf.data pipeline. The two are run in
turns, and the medians of their CPU and wall seconds per step are compared.
"""

import argparse
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from pipeline.training import strategy
from pipeline.training.inputs import Batch
from pipeline.training.loop import Loop, Objective
from pipeline.training.preprocessing import Preprocessing

_CLASSES = 10
_MEAN = _STD = (127.5, 127.5, 127.5)


def network(options: argparse.Namespace, activation: str | None) -> keras.Model:
    """Returns the network that both train."""
    return keras_resnet.create(
        options.model,
        input_shape=(options.size, options.size, 3),
        classes=_CLASSES,
        classifier_activation=activation,
        dtype=options.precision,
    )


def optimizer() -> keras.optimizers.Optimizer:
    """Returns what both train with."""
    return keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)


class Ours:
    """Steps of the training loop."""

    def __init__(self, options: argparse.Namespace, images: np.ndarray, labels: np.ndarray):
        chosen = strategy.make(strategy.ONE_DEVICE)
        with chosen.scope():
            model, sgd = network(options, None), optimizer()
        expected = Preprocessing(height=options.size, width=options.size, mean=_MEAN, std=_STD)
        self._loop = Loop(chosen, model, sgd, options.batch, Objective(expected))
        ones = np.ones(len(labels), np.float32)
        numbers = np.zeros(len(labels), np.int64)
        data = tf.data.Dataset.from_tensor_slices(Batch(images, labels, ones, numbers, numbers))
        batches = data.repeat().batch(options.batch, drop_remainder=True).prefetch(2)
        self._batches = chosen.experimental_distribute_dataset(batches)

    def run(self, steps: int) -> None:
        """Trains for so many steps."""
        for _ in self._loop.fit(self._batches, 0, steps, steps, 10):
            pass


class Keras:
    """Steps of `fit`, which has an epoch of as many steps and no callback."""

    def __init__(self, options: argparse.Namespace, images: np.ndarray, labels: np.ndarray):
        self._model = network(options, None)
        self._model.compile(
            optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        scaled = (images.astype(np.float32) - _MEAN[0]) / _STD[0]
        data = tf.data.Dataset.from_tensor_slices((scaled, labels))
        self._batches = data.repeat().batch(options.batch, drop_remainder=True).prefetch(2)

    def run(self, steps: int) -> None:
        """Trains for so many steps."""
        self._model.fit(self._batches, steps_per_epoch=steps, epochs=1, verbose=0)


def measured(trainer: Ours | Keras, steps: int) -> tuple[float, float]:
    """Returns CPU and wall milliseconds per step."""
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.run(steps)
    return (
        1e3 * (time.process_time() - cpu) / steps,
        1e3 * (time.perf_counter() - wall) / steps,
    )


def main() -> None:
    """Prints the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cifar_resnet20")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=20, help="steps of one turn")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    shape = (4 * options.batch, options.size, options.size, 3)
    images = random.integers(0, 256, shape, np.uint8)
    labels = random.integers(0, _CLASSES, len(images)).astype(np.int64)
    trainers = {"loop": Ours(options, images, labels), "fit": Keras(options, images, labels)}
    for trainer in trainers.values():
        trainer.run(options.steps)  # traces and compiles
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
    for _ in range(options.repeats):
        for name, trainer in trainers.items():
            found[name].append(measured(trainer, options.steps))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    for name, (cpu, wall) in medians.items():
        print(f"{name:5} {cpu:8.1f} ms CPU {wall:8.1f} ms wall per step")
    cpu, wall = (a / b for a, b in zip(medians["loop"], medians["fit"], strict=True))
    print(f"loop / fit, {options.model}, batch {options.batch}, {options.precision}: ", end="")
    print(f"{cpu:.3f} CPU, {wall:.3f} wall (at most 1.05)")


if __name__ == "__main__":
    main()
