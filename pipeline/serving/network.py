"""The network as it is served: probabilities and features, in float32, from one graph."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pipeline.serving import folding

Outputs = dict[str, tf.Tensor]
ConcreteFunction = tf.types.experimental.ConcreteFunction

# What may stand between the layer that classifies and the output.
_BEHIND_CLASSIFIER = (keras.layers.Softmax, keras.layers.Activation)
# A message of Protocol Buffers holds 2 GiB, and the graph has to fit beside the weights.
_MOST_BYTES = 3 << 29


@dataclass(frozen=True)
class Network:
    """A network ready to be served.

    Args:
        call: Maps normalised images, float32 (batch, height, width, 3), to a dictionary of
            `probabilities`, float32 (batch, classes), and where it has any `features`, float32
            (batch, channels).
        variables: Those that `call` reads; none where they are constants in it.
        has_features: Whether it has features.
        notices: What a person should know of it.
    """

    call: Callable[[tf.Tensor], Outputs]
    variables: list[tf.Variable]
    has_features: bool
    notices: tuple[str, ...]


def of(model: keras.Model) -> Network:
    """Returns the network of a Keras model that maps images to class probabilities.

    Its variables become constants, which TensorFlow can prepare once and for all, and its batch
    norms go into the convolutions before them.
    """
    inner, notices = with_features(model), []
    if not (has_features := "features" in inner.output):
        notices.append(
            f"export: {model.name!r} does not end in a dense layer that can be told apart; the "
            "signature 'features' is left out"
        )
    shape = (None, *model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def call(images: tf.Tensor) -> Outputs:
        found = inner(images, training=False)
        return {name: tf.cast(value, tf.float32) for name, value in found.items()}

    variables = [variable.value for variable in model.variables]
    if reason := _why_not_frozen(call.get_concrete_function(), variables):
        notices.append(f"export: {model.name!r} is served as it was trained, not folded: {reason}")
    else:
        call, folded = _frozen(call.get_concrete_function())
        variables = []
        if folded.left:
            notices.append(
                f"export: {folded.folded} batch norms are folded into the convolutions before "
                f"them; {folded.left} do not follow one, or not alone, and are left"
            )
    return Network(call, variables, has_features, tuple(notices))


def _why_not_frozen(function: ConcreteFunction, variables: Sequence[tf.Variable]) -> str | None:
    """Returns why the variables of a function cannot become constants, or None."""
    size = sum(int(np.prod(value.shape)) * value.dtype.size for value in variables)
    if size > _MOST_BYTES:
        return f"its {size:,} bytes do not fit into one message"
    own = {id(variable.handle) for variable in variables}
    strangers = [
        outer.name
        for outer, _ in function.graph.captures
        if outer.dtype == tf.resource and id(outer) not in own
    ]
    return f"it reads {strangers[0]}, which is no variable of its" if strangers else None


def _frozen(function: ConcreteFunction) -> tuple[Callable[[tf.Tensor], Outputs], folding.Folded]:
    constant = convert_variables_to_constants_v2(function)
    # The outputs of a dictionary come in the order of its keys.
    keys = sorted(function.structured_outputs)
    names = {key: out.op.name for key, out in zip(keys, constant.outputs, strict=True)}
    (given,) = constant.inputs
    graph = constant.graph.as_graph_def()
    for node in itertools.chain(graph.node, *(inner.node_def for inner in graph.library.function)):
        node.device = ""  # where it was trained, which the server need not have
    folded = folding.fold(graph, list(names.values()))

    @tf.function(input_signature=[tf.TensorSpec(given.shape, tf.float32)], autograph=False)
    def call(images: tf.Tensor) -> Outputs:
        found = tf.graph_util.import_graph_def(
            folded.graph,
            input_map={given.name: images},
            return_elements=[f"{name}:0" for name in names.values()],
            name="",
        )
        return dict(zip(names, found, strict=True))

    return call, folded


def with_features(model: keras.Model) -> keras.Model:
    """Returns the model with its outputs by name: `probabilities`, and `features` if it has any."""
    outputs = {"probabilities": model.outputs[0]}
    if (embedding := penultimate(model)) is not None:
        outputs["features"] = embedding
    return keras.Model(model.inputs[0], outputs)


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
