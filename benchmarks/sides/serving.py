"""Answers about photographs, by what is exported and by the network itself."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from benchmarks.plan import Turn

_CLASSES = 1000
_MEAN, _STD = (127.5,) * 3, (60.0,) * 3
_TOP = 5


def prepare(folder: Path, images: int, model: str, size: int) -> None:
    """Makes `photos`, class folders of JPEG files, and `model`, the SavedModel of a network."""
    from benchmarks import photographs
    from pipeline.serving import export
    from pipeline.training.preprocessing import Preprocessing

    photographs.make(folder / "photos", images, 384, 512)
    expected = Preprocessing(height=size, width=size, mean=_MEAN, std=_STD)
    names = [f"class {number}" for number in range(_CLASSES)]
    export.save(network(model, size), names, expected, folder / "model")


def network(model: str, size: int) -> keras.Model:
    """Returns a network of this package with weights that are the same in every process."""
    keras.utils.set_random_seed(0)
    return keras_resnet.create(model, input_shape=(size, size, 3), classes=_CLASSES)


class _Requests:
    """A turn is a number of requests, one after the other.

    Args:
        folder: What `prepare` has filled.
        model: Name of the network.
        size: Height and width in pixels that it expects.
        batch: Photographs of a request.
        requests: Of a turn.
    """

    def __init__(self, folder: Path, model: str, size: int, batch: int, requests: int):
        self._folder, self._model, self._size = folder, model, size
        photos = [path.read_bytes() for path in sorted((folder / "photos").rglob("*.jpg"))]
        self._asked = [
            self._request(
                [photos[(number * batch + place) % len(photos)] for place in range(batch)]
            )
            for number in range(requests)
        ]
        self._open()
        self._answer(self._asked[0])

    def run(self) -> Turn:
        times = []
        for asked in self._asked:
            begin = time.perf_counter()
            self._answer(asked)
            times.append(1e3 * (time.perf_counter() - begin))
        p50, p99 = np.percentile(times, (50, 99))
        items = sum(len(asked) for asked in self._asked)
        return Turn(items, figures={"p50 ms": float(p50), "p99 ms": float(p99)})

    def _request(self, photos: Sequence[bytes]) -> Sequence[bytes] | np.ndarray:
        """Returns what a client would send."""
        return photos

    def _pixels(self, photos: Sequence[bytes]) -> np.ndarray:
        """Returns float32 pixels of the size that the network expects, from 0 to 255."""
        decoded = [
            tf.io.decode_image(photo, channels=3, expand_animations=False) for photo in photos
        ]
        shape = (self._size, self._size)
        return np.stack([tf.image.resize(pixels, shape).numpy() for pixels in decoded])

    def _open(self) -> None:
        raise NotImplementedError

    def _answer(self, asked: Sequence[bytes] | np.ndarray) -> object:
        raise NotImplementedError


class _Exported(_Requests):
    """The SavedModel; it names the classes of each picture."""

    def _open(self) -> None:
        self._loaded = tf.saved_model.load(str(self._folder / "model"))
        self._ask = self._loaded.signatures[self._signature()]

    def _signature(self) -> str:
        raise NotImplementedError

    def _answer(self, asked):
        answer = self._ask(tf.constant(asked))
        return answer["classes"].numpy(), answer["scores"].numpy()


class Files(_Exported):
    """Given files as they are."""

    def _signature(self) -> str:
        from pipeline.serving import export

        return export.FILES


class Pixels(_Exported):
    """Given 8-bit pixels of the right size."""

    def _signature(self) -> str:
        from pipeline.serving import export

        return export.IMAGES

    def _request(self, photos):
        return self._pixels(photos).round().astype(np.uint8)


class _InKeras(_Requests):
    """The network as Keras has it."""

    def _open(self) -> None:
        self._network = network(self._model, self._size)


class DecodedInPython(_InKeras):
    """Decodes and scales with TensorFlow, predicts with Keras, and picks the best with NumPy."""

    def _answer(self, asked):
        pixels = (self._pixels(asked) - np.float32(_MEAN)) / np.float32(_STD)
        scores = self._network.predict_on_batch(pixels)
        best = np.argsort(-scores, axis=1)[:, :_TOP]
        return best, np.take_along_axis(scores, best, axis=1)


class Bare(_InKeras):
    """Nothing but the network."""

    def _request(self, photos):
        return (self._pixels(photos) - np.float32(_MEAN)) / np.float32(_STD)

    def _answer(self, asked):
        return self._network.predict_on_batch(asked)
