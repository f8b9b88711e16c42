"""Measures what is exported against the same network with its batch norms and variables.

    python -m benchmarks.serving_export [--model resnet50] [--size 224] [--batch 8]

Both are SavedModels with the same signature for pixels, loaded and asked in turns. The medians of
their CPU and wall seconds per image are compared, and their sizes.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from pipeline import files
from pipeline.serving import export
from pipeline.serving.network import Network
from pipeline.training.preprocessing import Preprocessing

_CLASSES = [f"class {number}" for number in range(10)]


def as_trained(model: keras.Model) -> Network:
    """Returns the network as Keras computes it, neither folded nor frozen."""

    def call(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(images, training=False)}

    variables = [variable.value for variable in model.variables]
    return Network(call, variables, has_features=False, notices=())


def save_as_trained(model: keras.Model, preprocessing: Preprocessing, folder: Path) -> None:
    """Writes the SavedModel of the network as it is."""
    classes = folder.with_suffix(".txt")
    classes.write_text("".join(f"{name}\n" for name in _CLASSES))
    served = export.ServedModel(as_trained(model), classes, preprocessing, export.TOP)
    tf.saved_model.save(served, str(folder), signatures=served.signatures())


def size_of(folder: Path) -> float:
    """Returns the size of a directory in MiB."""
    return sum(files.tree_listing(folder).values()) / 2**20


def measured(ask: Callable, images: tf.Tensor, requests: int) -> tuple[float, float]:
    """Returns CPU and wall milliseconds per image."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(requests):
        ask(images)["probabilities"].numpy()
    count = 1e-3 * requests * len(images)
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def main() -> None:
    """Prints the medians for one image, their ratio, and the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--requests", type=int, default=5, help="requests of one turn")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    shape = (options.size, options.size, 3)
    model = keras_resnet.create(options.model, input_shape=shape, classes=len(_CLASSES))
    expected = Preprocessing(
        height=options.size, width=options.size, mean=(127.5,) * 3, std=(60.0,) * 3
    )
    images = np.random.default_rng(0).integers(0, 256, (options.batch, *shape), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder, name) for name in ("exported", "as trained")}
        export.save(model, _CLASSES, expected, folders["exported"])
        save_as_trained(model, expected, folders["as trained"])
        sizes = {name: size_of(path) for name, path in folders.items()}
        loaded = {name: tf.saved_model.load(str(path)) for name, path in folders.items()}
    asked = {name: one.signatures[export.IMAGES] for name, one in loaded.items()}
    given = tf.constant(images)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    for ask in asked.values():
        measured(ask, given, 1)  # prepares the graph
    for _ in range(options.repeats):
        for name, ask in asked.items():
            found[name].append(measured(ask, given, options.requests))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    for name, (cpu, wall) in medians.items():
        print(f"{name:10}  CPU {cpu:8.2f} ms  wall {wall:8.2f} ms  {sizes[name]:6.1f} MiB")
    ours, theirs = medians.values()
    cpu, wall = (as_trained / exported for exported, as_trained in zip(ours, theirs, strict=True))
    print(f"times as many images per second: CPU {cpu:.3f}, wall {wall:.3f}")


if __name__ == "__main__":
    main()
