"""Answers of networks: SavedModels of the pipeline, and `predict_on_batch`."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from benchmarks.plan import Turn
from benchmarks.sides import networks
from pipeline import files

_MEAN, _STD = (127.5,) * 3, (60.0,) * 3


class _Answers:
    """A number of requests is a turn.

    Args:
        model: Name of the network, of `keras_resnet.list_models()`.
        size: Height and width of an image in pixels.
        classes: Of the classifier.
        batch: Images in a request.
        requests: Of a turn.
        precision: Dtype policy.
    """

    def __init__(
        self, model: str, size: int, classes: int, batch: int, requests: int, precision: str
    ):
        keras.utils.set_random_seed(0)
        self._name, self._size, self._classes = model, size, classes
        self._requests, self._precision = requests, precision
        shape = (batch, size, size, 3)
        self._images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def _ours(self) -> keras.Model:
        return keras_resnet.create(
            self._name,
            input_shape=(self._size, self._size, 3),
            classes=self._classes,
            dtype=self._precision,
        )


class _Saved(_Answers):
    """A SavedModel with the signature for pixels."""

    def __init__(self, **setting):
        super().__init__(**setting)
        from pipeline.serving import export
        from pipeline.training.preprocessing import Preprocessing

        expected = Preprocessing(height=self._size, width=self._size, mean=_MEAN, std=_STD)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            self._save(self._ours(), expected, [f"class {n}" for n in range(self._classes)], path)
            self._mebibytes = sum(files.tree_listing(path).values()) / 2**20
            self._model = tf.saved_model.load(str(path))
        self._ask = self._model.signatures[export.IMAGES]
        self._given = tf.constant(self._images)

    def _save(self, model: keras.Model, expected, classes: list[str], path: Path) -> None:
        raise NotImplementedError

    def run(self) -> Turn:
        for _ in range(self._requests):
            self._ask(self._given)["probabilities"].numpy()
        items = self._requests * len(self._images)
        return Turn(items, figures={"size, MiB": self._mebibytes})


class Exported(_Saved):
    """What the pipeline pushes: batch norms folded, variables frozen."""

    def _save(self, model, expected, classes, path):
        from pipeline.serving import export

        export.save(model, classes, expected, path)


class AsTrained(_Saved):
    """The same with the network as Keras computes it, neither folded nor frozen."""

    def _save(self, model, expected, classes, path):
        from pipeline.serving import export
        from pipeline.serving.network import Network

        def call(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": model(images, training=False)}

        variables = [variable.value for variable in model.variables]
        network = Network(call, variables, has_features=False, notices=())
        names = path.with_suffix(".txt")
        names.write_text("".join(f"{name}\n" for name in classes))
        served = export.ServedModel(network, names, expected, export.TOP)
        tf.saved_model.save(served, str(path), signatures=served.signatures())


class _InKeras(_Answers):
    """`predict_on_batch`."""

    def __init__(self, **setting):
        super().__init__(**setting)
        keras.config.set_dtype_policy(self._precision)
        self._model = self._network()
        self._given = ((self._images.astype(np.float32) - _MEAN[0]) / _STD[0]).astype(np.float32)

    def _network(self) -> keras.Model:
        raise NotImplementedError

    def run(self) -> int:
        for _ in range(self._requests):
            self._model.predict_on_batch(self._given)
        return self._requests * len(self._images)


class OursInKeras(_InKeras):
    """The network of this package."""

    def _network(self) -> keras.Model:
        return self._ours()


class Applications(_InKeras):
    """ResNet-50 of keras.applications."""

    def _network(self) -> keras.Model:
        return networks.applications_resnet50(self._size, self._classes, "softmax")


class KerasHub(_InKeras):
    """ResNet-18 of KerasHub."""

    def _network(self) -> keras.Model:
        return networks.keras_hub_resnet18(self._size, self._classes, "softmax")


class PlainKeras(_InKeras):
    """The network written with Keras' own layers."""

    def _network(self) -> keras.Model:
        return networks.PLAIN[self._name](self._classes, "softmax")
