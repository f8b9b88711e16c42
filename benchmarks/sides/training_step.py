"""Steps of training: the pipeline's loop, and `fit` with the networks of several packages."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from benchmarks.sides import networks

_MEAN = _STD = (127.5, 127.5, 127.5)
_BATCHES = 4  # that are in memory


class _Steps:
    """A number of steps is a turn.

    Args:
        model: Name of the network, of `keras_resnet.list_models()`.
        size: Height and width of an image in pixels.
        classes: Of the classifier.
        batch: Images in a step.
        steps: Of a turn.
        precision: Dtype policy.
    """

    def __init__(self, model: str, size: int, classes: int, batch: int, steps: int, precision: str):
        keras.utils.set_random_seed(0)
        self._name, self._size, self._classes = model, size, classes
        self._batch, self._steps, self._precision = batch, steps, precision
        random = np.random.default_rng(0)
        shape = (_BATCHES * batch, size, size, 3)
        self._images = random.integers(0, 256, shape, np.uint8)
        self._labels = random.integers(0, classes, len(self._images)).astype(np.int64)

    def run(self) -> int:
        self._train(self._steps)
        return self._steps * self._batch

    def _train(self, steps: int) -> None:
        raise NotImplementedError

    def _ours(self) -> keras.Model:
        return keras_resnet.create(
            self._name,
            input_shape=(self._size, self._size, 3),
            classes=self._classes,
            classifier_activation=None,
            dtype=self._precision,
        )


class Ours(_Steps):
    """The pipeline's loop."""

    def __init__(self, **setting):
        super().__init__(**setting)
        from pipeline.training import strategy
        from pipeline.training.inputs import Batch
        from pipeline.training.loop import Loop, Objective
        from pipeline.training.preprocessing import Preprocessing

        chosen = strategy.make(strategy.ONE_DEVICE)
        with chosen.scope():
            model, optimizer = self._ours(), _optimizer()
        expected = Preprocessing(height=self._size, width=self._size, mean=_MEAN, std=_STD)
        self._loop = Loop(chosen, model, optimizer, self._batch, Objective(expected))
        ones = np.ones(len(self._labels), np.float32)
        numbers = np.zeros(len(self._labels), np.int64)
        batch = Batch(self._images, self._labels, ones, numbers, numbers)
        self._batches = chosen.experimental_distribute_dataset(_batches(batch, self._batch))

    def _train(self, steps: int) -> None:
        for _ in self._loop.fit(self._batches, 0, steps, steps, steps):
            pass


class _Fit(_Steps):
    """`fit`, with an epoch of as many steps as a turn has, and no callback."""

    def __init__(self, **setting):
        super().__init__(**setting)
        keras.config.set_dtype_policy(self._precision)
        self._model = self._network()
        self._model.compile(
            _optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        scaled = (self._images.astype(np.float32) - _MEAN[0]) / _STD[0]
        self._batches = _batches((scaled, self._labels), self._batch)

    def _network(self) -> keras.Model:
        raise NotImplementedError

    def _train(self, steps: int) -> None:
        self._model.fit(self._batches, steps_per_epoch=steps, epochs=1, verbose=0)


class OursInFit(_Fit):
    """The network of this package."""

    def _network(self) -> keras.Model:
        return self._ours()


class Applications(_Fit):
    """ResNet-50 of keras.applications."""

    def _network(self) -> keras.Model:
        return networks.applications_resnet50(self._size, self._classes, None)


class KerasHub(_Fit):
    """ResNet-18 of KerasHub."""

    def _network(self) -> keras.Model:
        return networks.keras_hub_resnet18(self._size, self._classes, None)


class PlainKeras(_Fit):
    """The network written with Keras' own layers."""

    def _network(self) -> keras.Model:
        return networks.PLAIN[self._name](self._classes, None)


def _optimizer() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)


def _batches(arrays: tuple, batch: int) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices(arrays)
    return data.repeat().batch(batch, drop_remainder=True).prefetch(2)
