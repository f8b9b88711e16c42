"""How each kind of file names the weights of a network, and how it lays them out."""

from collections.abc import Collection, Iterator

import keras
import numpy as np

from keras_resnet.weights import keras_names, torch_names

# Gamma and beta, mean and variance of a batch norm; or the two of a convolution or a dense layer.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_LINEAR = ("kernel", "bias")


class LayerNames:
    """The package's own names, such as `stage3_block2/conv1/kernel`; Keras' layout."""

    def variables(
        self, model: keras.Model, names: Collection[str]
    ) -> Iterator[tuple[str, keras.Variable]]:
        """Each weight of the model with its name in a file of these names."""
        for variable in model.weights:
            yield variable.path, variable

    def classifier(self, model: keras.Model, names: Collection[str]) -> tuple[str, str]:
        """Names of the two weights of the classifier in a file of these names."""
        return "classifier/kernel", "classifier/bias"

    def to_keras(self, value: np.ndarray, variable: keras.Variable) -> np.ndarray:
        """A tensor of the file in the layout of Keras."""
        return value


class KerasApplications(LayerNames):
    """The names of keras.applications and of tf.keras' ResNet-RS, such as `conv1_bn/gamma`."""

    def variables(
        self, model: keras.Model, names: Collection[str]
    ) -> Iterator[tuple[str, keras.Variable]]:
        layers = {name.rpartition("/")[0] for name in names}
        for name, layer in keras_names.keras_layers(model, layers):
            for variable in layer.weights:
                yield f"{name}/{variable.name}", variable

    def classifier(self, model: keras.Model, names: Collection[str]) -> tuple[str, str]:
        layer = keras_names.classifier({name.rpartition("/")[0] for name in names})
        return f"{layer}/kernel", f"{layer}/bias"


class Torch(LayerNames):
    """The names of timm and torchvision, such as `layer3.1.conv1.weight`; torch's layout."""

    def variables(
        self, model: keras.Model, names: Collection[str]
    ) -> Iterator[tuple[str, keras.Variable]]:
        return torch_variables(model)

    def classifier(self, model: keras.Model, names: Collection[str]) -> tuple[str, str]:
        module = torch_names.dialect_of(model).classifier
        return f"{module}.weight", f"{module}.bias"

    def to_keras(self, value: np.ndarray, variable: keras.Variable) -> np.ndarray:
        if value.ndim == 4 and len(variable.shape) == 2 and value.shape[2:] == (1, 1):
            value = value[:, :, 0, 0]  # A classifier that torch keeps as a 1×1 convolution.
        if value.ndim == 4:  # (out, in / groups, height, width)
            return value.transpose(2, 3, 1, 0)
        return value.T


def torch_variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Each weight of the model with the name of its tensor in torch."""
    for module, layer in torch_names.torch_modules(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            yield f"{module}.weight", layer.gamma
            yield f"{module}.bias", layer.beta
            yield f"{module}.running_mean", layer.moving_mean
            yield f"{module}.running_var", layer.moving_variance
        else:
            yield f"{module}.weight", layer.kernel
            if layer.bias is not None:
                yield f"{module}.bias", layer.bias


def numbered_names(count: int) -> tuple[str, ...]:
    """The names of the weights of a layer that has so many of them, in Keras' order."""
    return _NORM if count == len(_NORM) else _LINEAR[:count]
