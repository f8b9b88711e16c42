"""Batch normalisation folded into the convolutions before it, on the graph of TensorFlow.

In inference a batch norm multiplies and shifts each channel by constants, which the convolution
before it can do itself. On the graph it does not matter of what layers a network is made: what is
found is a convolution with constant weights whose result goes nowhere but through such steps. A
batch norm before a convolution, as in pre-activation, stays what it is.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
# What changes no value, and what a dilated convolution is made of beside the convolution.
_PASSED = ("Identity", "BatchToSpaceND")
# Of one output each, which makes their names in a function those in a graph.
_INLINED = frozenset(("Const", "Conv2D", "Identity", "NoOp", "SpaceToBatchND", "BatchToSpaceND"))
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_NODE = tf.compat.v1.NodeDef


@dataclass(frozen=True)
class Folded:
    """A graph in which batch norms have been folded.

    Args:
        graph: The graph without them; the names of inputs and outputs are the same.
        folded: How many batch norms have been folded.
        left: How many are left.
    """

    graph: tf.compat.v1.GraphDef
    folded: int
    left: int


def fold(graph: tf.compat.v1.GraphDef, outputs: list[str]) -> Folded:
    """Folds every batch norm that directly follows a convolution.

    Args:
        graph: Without variables: their values are constants in it.
        outputs: Names of the nodes whose results are wanted; they are left as they are.

    Reference:
        - [Jacob et al., 2018, section 3.2](https://arxiv.org/abs/1712.05877)
    """
    graph = _inlined(graph)
    pass_ = _Pass(graph, outputs)
    for node in graph.node:
        if node.op in _CONVOLUTIONS:
            pass_.absorb(node)
    return pass_.result()


class _Pass:
    def __init__(self, graph: tf.compat.v1.GraphDef, outputs: list[str]):
        self._graph = graph
        self._nodes = {node.name: node for node in graph.node}
        self._outputs = set(outputs)
        self._consumers: dict[str, list[_NODE]] = {}
        for node in graph.node:
            for name in _inputs(node):
                self._consumers.setdefault(_source(name), []).append(node)
        self._constants: dict[str, np.ndarray | None] = {}
        self._replaced: dict[str, list[_NODE]] = {}
        self._folded = 0

    def absorb(self, convolution: _NODE) -> None:
        """Puts the scale and the shift of each channel behind a convolution into it."""
        weights = self._constant(convolution.input[1])
        if weights is None or convolution.attr["data_format"].s != b"NHWC":
            return
        depthwise = convolution.op != "Conv2D"
        channels = weights.shape[2] * weights.shape[3] if depthwise else weights.shape[3]
        scale, shift = np.ones(channels), np.zeros(channels)
        last, norms, steps = convolution, 0, []
        while step := self._step_after(last, channels):
            last, place, factor, summand = step
            steps.append((last, place))
            norms += not np.array_equal(factor, np.ones(channels))
            scale, shift = scale * factor, shift * factor + summand
        if not norms:
            return
        shape = weights.shape[2:] if depthwise else (channels,)
        kernel = _constant_node(f"{convolution.name}/folded_kernel", weights * scale.reshape(shape))
        bias = _constant_node(f"{convolution.name}/folded_bias", shift)
        # All names stay, so that whoever reads one of these nodes need not change.
        absorbing = _copy(convolution, [convolution.input[0], kernel.name])
        self._replaced[convolution.name] = [kernel, bias, absorbing]
        for node, place in steps:
            if node.op not in _PASSED:
                passed = _NODE(name=node.name, op="Identity", input=[node.input[place]])
                passed.attr["T"].type = tf.float32.as_datatype_enum
                self._replaced[node.name] = [passed]
        (end, place), shifted = steps[-1], _NODE(name=last.name, op="BiasAdd")
        shifted.input.extend([end.input[place], bias.name])
        shifted.attr["T"].type = tf.float32.as_datatype_enum
        shifted.attr["data_format"].s = b"NHWC"
        self._replaced[last.name] = [shifted]
        self._folded += norms

    def result(self) -> Folded:
        """Returns what the outputs depend on."""
        result = tf.compat.v1.GraphDef(versions=self._graph.versions, library=self._graph.library)
        nodes = {
            node.name: node
            for name, old in self._nodes.items()
            for node in self._replaced.get(name, [old])
        }
        wanted, found = sorted(self._outputs), set()
        while wanted:
            name = wanted.pop()
            if name in found:
                continue
            found.add(name)
            inputs = _inputs(nodes[name])
            result.node.append(_copy(nodes[name], inputs))
            wanted.extend(map(_source, inputs))
        left = sum(node.op in ("Rsqrt", "FusedBatchNormV3") for node in result.node)
        return Folded(result, self._folded, left)

    def _step_after(
        self, node: _NODE, channels: int
    ) -> tuple[_NODE, int, np.ndarray, np.ndarray] | None:
        """Returns the only node that reads `node`, if it does nothing but scale and shift.

        With it come the place of `node` among its inputs, and its factor and its summand for each
        channel.
        """
        readers = self._consumers.get(node.name, [])
        if len(readers) != 1 or node.name in self._outputs:
            return None
        (reader,) = readers
        names = [_source(name) for name in _inputs(reader)]
        if reader.op in _PASSED:
            return reader, 0, np.ones(channels), np.zeros(channels)
        if reader.op not in ("BiasAdd", "Mul", "Add", "AddV2", "Sub") or len(names) != 2:
            return None
        place = names.index(node.name)
        values = _per_channel(self._constant(names[1 - place]), channels)
        if values is None or (reader.op == "Sub" and place == 1):
            return None
        if reader.op == "Mul":
            return reader, place, values, np.zeros(channels)
        return reader, place, np.ones(channels), -values if reader.op == "Sub" else values

    def _constant(self, name: str) -> np.ndarray | None:
        """Returns the value of a node that depends on constants alone, else None."""
        name = _source(name)
        if name not in self._constants:
            self._constants[name] = self._evaluate(self._nodes[name])
        return self._constants[name]

    def _evaluate(self, node: _NODE) -> np.ndarray | None:
        if node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            return value.astype(np.float64) if value.dtype == np.float32 else value
        function = _EVALUATED.get(node.op)
        if function is None:
            return None
        inputs = [self._constant(name) for name in _inputs(node)]
        return None if any(value is None for value in inputs) else function(*inputs)


_EVALUATED = {
    "Identity": lambda value: value,
    "Reshape": np.reshape,
    "Squeeze": np.squeeze,
    "Rsqrt": lambda value: 1 / np.sqrt(value),
    "Neg": np.negative,
    "Mul": np.multiply,
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
}


def _inlined(graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Replaces calls of functions that do nothing but convolve by what is in them.

    Keras lets XLA compile grouped convolutions, for the sake of old versions of TensorFlow. TF
    Serving need not have XLA, and no convolution can be folded inside of a call.
    """
    functions = {
        function.signature.name: function
        for function in graph.library.function
        if {node.op for node in function.node_def} <= _INLINED
    }
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        function = functions.get(node.attr["f"].func.name) if node.op in _CALLS else None
        if function is None or len(function.signature.output_arg) != 1:
            result.node.add().CopyFrom(node)
            continue
        arguments = [argument.name for argument in function.signature.input_arg]
        given = dict(zip(arguments, node.input, strict=False))

        def outside(name: str, given=given, prefix=node.name) -> str:
            return given.get(name) or f"{prefix}/{_source(name)}"

        for inner in function.node_def:
            result.node.append(_copy(inner, [outside(name) for name in _inputs(inner)]))
            result.node[-1].name = f"{node.name}/{inner.name}"
        (returned,) = function.ret.values()
        passed = result.node.add(name=node.name, op="Identity", input=[outside(returned)])
        passed.attr["T"].type = node.attr["Tout"].list.type[0]
    return result


def _copy(node: _NODE, inputs: list[str]) -> _NODE:
    """Returns the same node with other inputs."""
    copy = _NODE()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(inputs)
    return copy


def _inputs(node: _NODE) -> list[str]:
    """Returns the values that go into a node.

    Those that only say what comes before it are left out: without variables no order matters.
    """
    return [name for name in node.input if not name.startswith("^")]


def _source(name: str) -> str:
    """Returns the name of the node that an input comes from."""
    return name.partition(":")[0]


def _per_channel(value: np.ndarray | None, channels: int) -> np.ndarray | None:
    """Returns one number for each channel, where a value is constant over everything else."""
    if value is None or value.size not in (1, channels):
        return None
    if value.size > 1 and value.shape[-1] != channels:
        return None
    return np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float64)


def _constant_node(name: str, value: np.ndarray) -> _NODE:
    node = _NODE(name=name, op="Const")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float32)))
    return node
