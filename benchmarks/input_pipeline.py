"""Measures the input of training against Keras' own, on JPEG photographs.

    python -m benchmarks.input_pipeline [--photos FOLDER] [--size 224] [--seconds 5]

Both read every file each time it comes, in a random order, and give float32 batches of 32 images,
scaled from -1 to 1, once as random crops that are flipped and once rotated and zoomed:

- ours: the records that ExampleGen wrote of the folder, through `training.inputs`, nothing kept in
  memory; then what the training loop does on the device, augmentation and normalisation, here on
  the CPU. A crop is a part of 25 to 100 % of the picture, scaled to the target.
- Keras: `keras.utils.image_dataset_from_directory` and its layers in `map`, all with autotuned
  parallelism, and `prefetch`. A crop is RandomCrop from pictures that are larger by 256/224.

The two take turns. Medians over the turns of images per second are compared, and of CPU
milliseconds per image, which other programs on the machine disturb less. Without a folder,
photographs are made up.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks import photographs
from keras_resnet.recipes import Augmentation
from pipeline.components import example_gen as component
from pipeline.orchestration.artifact import Artifact, Context
from pipeline.records import manifest
from pipeline.training import order, records
from pipeline.training.draws import Draws
from pipeline.training.inputs import Batch, Images, Share
from pipeline.training.preprocessing import Preprocessing, normalize

_CROP, _TURN = "crop and flip", "rotation and zoom"
_BATCH = 32
_SEED = 0
_MEAN = _STD = (127.5, 127.5, 127.5)
_AREA = (0.25, 1.0)
# Of the full turn, as Keras counts, and of the size.
_ROTATION, _ZOOM = 0.05, 0.2
_WARM_UP = 8  # batches


def ours(examples: Path, size: int, kind: str) -> Iterator[tf.Tensor]:
    """Yields training batches as the network gets them."""
    expected = Preprocessing(height=size, width=size, mean=_MEAN, std=_STD)
    if kind == _CROP:
        area, augmentation = _AREA, Augmentation(flip=True)
    else:
        area, augmentation = None, Augmentation(rotation=_ROTATION, zoom=_ZOOM)
    opened = records.open_split(examples, manifest.load(examples), "train")
    images = Images(opened, expected, area, _SEED, augmentation.interpolates)

    @tf.function(jit_compile=True)
    def on_device(batch: Batch) -> tf.Tensor:
        draws = Draws(_SEED, batch.steps[0], batch.places, _BATCH)
        pixels, _ = augmentation(batch.images, tf.zeros((_BATCH, 1)), draws)
        return normalize(pixels, expected)

    shuffled = order.Shuffled(len(images), _SEED)
    for batch in images.training(shuffled, Share(_BATCH), 0, 1 << 30):
        yield on_device(batch)


def peers(folder: Path, size: int, kind: str) -> Iterator[tf.Tensor]:
    """Yields the batches of Keras."""
    if kind == _CROP:
        read = round(size * 256 / 224)
        layers = [keras.layers.RandomCrop(size, size), keras.layers.RandomFlip("horizontal")]
    else:
        read = size
        layers = [keras.layers.RandomRotation(_ROTATION), keras.layers.RandomZoom(_ZOOM)]
    augment = keras.Sequential([*layers, keras.layers.Rescaling(1 / _STD[0], -1.0)])
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(read, read), batch_size=_BATCH, shuffle=True, seed=_SEED, verbose=False
    )
    data = data.repeat().map(
        lambda images, _: augment(images, training=True), num_parallel_calls=tf.data.AUTOTUNE
    )
    yield from data.prefetch(tf.data.AUTOTUNE)


def measured(batches: Iterator[tf.Tensor], seconds: float) -> tuple[float, float]:
    """Returns images per second and CPU milliseconds per image, once all is running."""
    for _ in range(_WARM_UP):
        next(batches)
    begin, cpu, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < seconds:
        images += int(next(batches).shape[0])
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return images / wall, 1e3 * cpu / images


def compare(
    kind: str,
    makers: dict[str, Callable[[], Iterator[tf.Tensor]]],
    repeats: int,
    seconds: float,
) -> None:
    """Prints medians over turns that alternate, and the median of the turns' ratios."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for _ in range(repeats):
        for name, make in makers.items():
            found[name].append(measured(make(), seconds))
    for name, turns in found.items():
        rate, cpu = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"{kind:17}  {name:5} {rate:7,.0f} images/s  {cpu:5.2f} ms CPU per image")
    turns = list(zip(*found.values(), strict=True))
    rate = statistics.median(mine[0] / other[0] for mine, other in turns)
    cpu = statistics.median(other[1] / mine[1] for mine, other in turns)
    print(f"{kind:17}  {rate:.2f} times the images/s (at least 2), by CPU time {cpu:.2f} times")


def main() -> None:
    """Prints the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder of class folders with JPEG files")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--images", type=int, default=1000, help="photographs to make up")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photos = options.photos or Path(scratch, "photos")
        if not options.photos:
            photographs.make(photos, options.images, 384, 512)
        examples = Path(scratch, "examples")
        examples.mkdir()
        component.run(
            {},
            {"examples": Artifact("Examples", examples)},
            component.Parameters(source=str(photos)),
            Context("benchmark"),
        )
        for kind in (_CROP, _TURN):
            makers = {
                "ours": lambda kind=kind: ours(examples, options.size, kind),
                "Keras": lambda kind=kind: peers(photos, options.size, kind),
            }
            compare(kind, makers, options.repeats, options.seconds)


if __name__ == "__main__":
    main()
