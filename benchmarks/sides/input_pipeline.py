"""Training batches from photographs, by several ways."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

import tensorflow as tf

from benchmarks.input_pipeline import CROP
from benchmarks.plan import Turn

_BATCH = 32
_SEED = 0
_MEAN = _STD = (127.5, 127.5, 127.5)
_CROP = 7 / 8  # of the height and of the width
# Of the full turn, as Keras counts, and of the size.
_ROTATION, _ZOOM = 0.05, 0.2
_WARM_UP = 0.25  # share of a turn that does not count: what was read ahead before it


def prepare(folder: Path, images: int, height: int, width: int) -> None:
    """Makes `photos`, class folders of JPEG files, and `examples`, what ExampleGen made of them."""
    from benchmarks import photographs
    from pipeline.components import example_gen
    from pipeline.orchestration.artifact import Artifact, Context

    photos, examples = folder / "photos", folder / "examples"
    photographs.make(photos, images, height, width)
    examples.mkdir()
    example_gen.run(
        {},
        {"examples": Artifact("Examples", examples)},
        example_gen.Parameters(source=str(photos)),
        Context("benchmark"),
    )


class _Stream:
    """A turn is so many seconds of batches.

    Args:
        folder: What `prepare` has filled.
        size: Height and width of an image in pixels.
        kind: Of the augmentation.
        seconds: Of a turn.
    """

    def __init__(self, folder: Path, size: int, kind: str, seconds: float):
        self._size, self._kind, self._seconds = size, kind, seconds
        self._batches = self._open(folder)
        next(self._batches)

    def run(self) -> Turn:
        self._take(_WARM_UP * self._seconds)
        wall, cpu = time.perf_counter(), time.process_time()
        images = self._take(self._seconds)
        return Turn(images, time.perf_counter() - wall, time.process_time() - cpu)

    def _take(self, seconds: float) -> int:
        end, images = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            images += int(next(self._batches).shape[0])
        return images

    def _open(self, folder: Path) -> Iterator[tf.Tensor]:
        raise NotImplementedError


class Ours(_Stream):
    """The pipeline's."""

    def _open(self, folder: Path) -> Iterator[tf.Tensor]:
        from keras_resnet.recipes import Augmentation
        from pipeline.records import manifest
        from pipeline.training import order, records
        from pipeline.training.draws import Draws
        from pipeline.training.inputs import Batch, Images, Share
        from pipeline.training.preprocessing import Preprocessing, normalize

        expected = Preprocessing(height=self._size, width=self._size, mean=_MEAN, std=_STD)
        opened = records.open_split(
            folder / "examples", manifest.load(folder / "examples"), "train"
        )
        area, ratio = None, (1.0, 1.0)
        if self._kind == CROP:
            high, wide = opened.sizes[0]
            area, ratio = (_CROP**2, _CROP**2), (wide / high, wide / high)
            augmentation = Augmentation(flip=True)
        else:
            augmentation = Augmentation(rotation=_ROTATION, zoom=_ZOOM)
        images = Images(opened, expected, area, _SEED, augmentation.interpolates, ratio)

        @tf.function(jit_compile=True)
        def on_device(batch: Batch) -> tf.Tensor:
            draws = Draws(_SEED, batch.steps[0], batch.places, _BATCH)
            pixels, _ = augmentation(batch.images, tf.zeros((_BATCH, 1)), draws)
            return normalize(pixels, expected)

        shuffled = order.Shuffled(len(images), _SEED)
        return map(on_device, images.training(shuffled, Share(_BATCH), 0, 1 << 30))


class Keras(_Stream):
    """Keras' own, as its guides have it, with autotuned parallelism."""

    def _open(self, folder: Path) -> Iterator[tf.Tensor]:
        import keras

        if self._kind == CROP:
            read = round(self._size / _CROP)
            layers = [
                keras.layers.RandomCrop(self._size, self._size),
                keras.layers.RandomFlip("horizontal"),
            ]
        else:
            read = self._size
            layers = [keras.layers.RandomRotation(_ROTATION), keras.layers.RandomZoom(_ZOOM)]
        augment = keras.Sequential([*layers, keras.layers.Rescaling(1 / _STD[0], -1.0)])
        data = keras.utils.image_dataset_from_directory(
            folder / "photos",
            image_size=(read, read),
            batch_size=_BATCH,
            shuffle=True,
            seed=_SEED,
            verbose=False,
        )
        data = data.repeat().map(
            lambda images, _: augment(images, training=True), num_parallel_calls=tf.data.AUTOTUNE
        )
        return iter(data.prefetch(tf.data.AUTOTUNE))


class Tfds(_Stream):
    """The records read by TensorFlow Datasets, decoded after they are shuffled, as its guide has it."""

    def _open(self, folder: Path) -> Iterator[tf.Tensor]:
        import tensorflow_datasets as tfds

        from pipeline.records import examples

        read = round(self._size / _CROP)

        def augment(example: dict[str, tf.Tensor]) -> tf.Tensor:
            pixels = tf.io.decode_jpeg(example[examples.IMAGE], channels=3)
            whole = tf.image.resize(pixels, (read, read))
            part = tf.image.random_crop(whole, (self._size, self._size, 3))
            return tf.image.random_flip_left_right(part) / _STD[0] - 1.0

        data = tfds.builder_from_directory(folder / "examples").as_dataset(
            split="train",
            shuffle_files=True,
            decoders={examples.IMAGE: tfds.decode.SkipDecoding()},
        )
        data = data.shuffle(1000, seed=_SEED).repeat()
        data = data.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(_BATCH)
        return iter(data.prefetch(tf.data.AUTOTUNE))


class Decoder(_Stream):
    """Nothing but decoding, of files that are in memory."""

    def _open(self, folder: Path) -> Iterator[tf.Tensor]:
        files = [path.read_bytes() for path in sorted((folder / "photos").rglob("*.jpg"))]
        data = tf.data.Dataset.from_tensor_slices(files).repeat()
        # The pixels go no further: to batch them would be a copy, which is no decoding.
        data = data.map(
            lambda encoded: tf.shape(tf.io.decode_jpeg(encoded, channels=3)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return iter(data.batch(_BATCH).prefetch(tf.data.AUTOTUNE))
