"""What per-batch stochastic depth saves: CPU time of a training step with it and without.

The 110-layer network of Huang et al. (2016) for images of 32×32, p_L = 0.5, against the same
network that drops nothing. The steps of the two alternate, and each is timed in CPU seconds of the
whole process, so that other load on the machine falls on both. The paper's expected share of
surviving blocks is 0.745 for 54 blocks; the stem, the shortcuts and the optimizer are never
skipped. On JAX most of the difference is not the skipping: XLA's CPU compiler is slow on the long
plain network, which the conditionals cut into pieces (`--rate 0.001` shows how much that is).

    KERAS_BACKEND=tensorflow python -m benchmarks.stochastic_depth
    KERAS_BACKEND=jax python -m benchmarks.stochastic_depth
    python -m benchmarks.stochastic_depth --depth 20 --steps 10    # a quick look
"""

import argparse
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_resnet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--depth", type=int, default=110, help="6 n + 2 layers")
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--steps", type=int, default=30, help="steps of each network")
    parser.add_argument("--rate", type=float, default=0.5, help="drop rate of the last block")
    parser.add_argument(
        "--jit",
        action=argparse.BooleanOptionalAction,
        help="XLA; by default on JAX only, and never for the dropping network on TensorFlow's CPU",
    )
    arguments = parser.parse_args()
    if arguments.depth < 8 or (arguments.depth - 2) % 6:
        parser.error(f"--depth must be 6 n + 2. Received: {arguments.depth}")
    backend = keras.config.backend()
    jit = backend == "jax" if arguments.jit is None else arguments.jit
    print(
        f"{processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, Keras {keras.__version__}, "
        f"{backend} {version(backend)}, XLA {'on' if jit else 'off'}"
    )
    without, with_dropping = measure(arguments, jit)
    for name, seconds in (("without", without), ("with", with_dropping)):
        print(
            f"{name:>8}: mean {statistics.mean(seconds):.3f} s, "
            f"median {statistics.median(seconds):.3f} s of CPU a step"
        )
    ratio = statistics.mean(with_dropping) / statistics.mean(without)
    print(
        f"   ratio: {ratio:.3f} of the means over {arguments.steps} alternated steps; expected "
        f"share of surviving blocks {expected_survival(arguments):.3f}"
    )


def measure(arguments: argparse.Namespace, jit: bool) -> tuple[list[float], list[float]]:
    """CPU seconds of each step, without stochastic depth and with it."""
    random = np.random.default_rng(0)
    images = random.normal(size=(arguments.batch, 32, 32, 3)).astype("float32")
    labels = random.integers(10, size=arguments.batch)
    models = [network(arguments.depth, rate, jit) for rate in (0.0, arguments.rate)]
    for model in models:
        for _ in range(2):
            model.train_on_batch(images, labels)
    seconds = ([], [])
    for _ in range(arguments.steps):
        for model, times in zip(models, seconds, strict=True):
            start = time.process_time()
            model.train_on_batch(images, labels)
            times.append(time.process_time() - start)
    return seconds


def network(depth: int, rate: float, jit: bool) -> keras.Model:
    model = keras_resnet.create(
        "cifar_resnet110_sd", depths=((depth - 2) // 6,) * 3, drop_path_rate=rate, seed=1
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit)
    return model


def expected_survival(arguments: argparse.Namespace) -> float:
    blocks = (arguments.depth - 2) // 2
    return 1 - arguments.rate * (blocks + 1) / (2 * blocks)


def processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
