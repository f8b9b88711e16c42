"""The network as it is served: probabilities and features, in float32, from one graph."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

# What may stand between the layer that classifies and the output.
_BEHIND_CLASSIFIER = (keras.layers.Softmax, keras.layers.Activation)


@dataclass(frozen=True)
class Network:
    """A network ready to be served.

    Args:
        call: Maps normalised images, float32 (batch, height, width, 3), to a dictionary of
            `probabilities`, float32 (batch, classes), and where it has any `features`, float32
            (batch, channels).
        variables: Those that `call` reads.
        has_features: Whether it has features.
        notices: What a person should know of it.
    """

    call: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    variables: list[tf.Variable]
    has_features: bool
    notices: tuple[str, ...]


def of(model: keras.Model) -> Network:
    """Returns the network of a Keras model that maps images to class probabilities."""
    embedding = penultimate(model)
    notices = []
    outputs = {"probabilities": model.outputs[0]}
    if embedding is None:
        notices.append(
            f"the network {model.name!r} does not end in a dense layer that can be told apart; "
            "the signature 'features' is left out"
        )
    else:
        outputs["features"] = embedding
    inner = keras.Model(model.inputs, outputs)
    shape = (None, *model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def call(images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = inner(images, training=False)
        return {name: tf.cast(value, tf.float32) for name, value in found.items()}

    variables = [variable.value for variable in model.variables]
    return Network(call, variables, embedding is not None, tuple(notices))


def penultimate(model: keras.Model) -> keras.KerasTensor | None:
    """Returns what goes into the dense layer that classifies, of shape (None, channels).

    None where the model is no functional one, or does not end in such a layer.
    """
    producers = {id(layer.output): layer for layer in model.layers if _is_used_once(layer)}
    tensor = model.outputs[0]
    while layer := producers.get(id(tensor)):
        if isinstance(layer, keras.layers.Dense):
            return layer.input if len(layer.input.shape) == 2 else None
        if not isinstance(layer, _BEHIND_CLASSIFIER):
            return None
        tensor = layer.input
    return None


def _is_used_once(layer: keras.Layer) -> bool:
    # The public attributes raise where there are several, or none.
    try:
        return isinstance(layer.output, keras.KerasTensor)
    except AttributeError:
        return False
