"""What no operation of Keras covers: the one file that imports a backend, and only when called."""

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

_in_conditional = ContextVar("in_conditional", default=False)


def replica_id():
    """Returns the number of the replica that runs this code, or None where there is only one.

    Keras mirrors the state of a seed generator, so that the layers of all replicas of a
    `tf.distribute` strategy draw the same numbers unless they fold this number in. The other
    backends trace one program for the global batch, whose draws differ by position already.
    """
    if keras.config.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return None
    context = tf.distribute.get_replica_context()
    return None if context is None else context.replica_id_in_sync_group


def is_of_tf_data(x: Any) -> bool:
    """Whether `x` is a tensor in a graph of `tf.data`, in a program on another backend."""
    if keras.config.backend() == "tensorflow" or not type(x).__module__.startswith("tensorflow."):
        return False
    import tensorflow as tf

    return tf.is_symbolic_tensor(x)


def image_operations(x: Any) -> Any:
    """Returns `keras.ops`, or where `is_of_tf_data(x)` what stands in for those on images."""
    if not is_of_tf_data(x):
        return ops
    import tensorflow as tf

    def resize(images, size, interpolation, antialias, data_format):
        return tf.image.resize(images, size, interpolation, antialias=antialias)

    return SimpleNamespace(
        cast=tf.cast,
        clip=tf.clip_by_value,
        image=SimpleNamespace(resize=resize),
        maximum=tf.maximum,
        minimum=tf.minimum,
        round=tf.round,
        shape=lambda images: tf.unstack(tf.shape(images)),
    )


def fused_batch_norm(
    inputs: Any, gamma: Any, beta: Any, epsilon: float, axis: int
) -> tuple[Any, Any, Any] | None:
    """Returns images normalised by their batch, its mean and its biased variance, in one operation.

    None where the backend or the inputs have no such operation. Images of half precision stay so;
    inside all is float32, and so are mean and variance.
    """
    if keras.config.backend() != "tensorflow" or axis not in (3, -1):
        return None
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if len(inputs.shape) != 4 or dtype not in ("float32", "bfloat16", "float16"):
        return None
    import tensorflow as tf

    inputs = tf.convert_to_tensor(inputs)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=ops.cast(gamma, "float32"),
        offset=ops.cast(beta, "float32"),
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=epsilon,
        exponential_avg_factor=1.0,
        is_training=True,
    )
    # It returns the variance of the population that the batch is a sample of.
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
    return outputs, mean, variance * ((count - 1.0) / count)


def run_if(keep: Any, run: Callable[[], Any], skip: Callable[[], Any]) -> Any:
    """Returns `run()` where the boolean scalar `keep` is true, else `skip()`.

    The conditional is the device's own, so that a training step does only one of the two.
    `run` may hold convolutions and batch normalization; it must return what it would assign.
    """
    if keras.config.backend() != "jax":
        return ops.cond(keep, run, skip)
    import jax

    if not isinstance(keep, jax.core.Tracer):  # Eagerly, JAX would compile it at every call.
        return run() if keep else skip()

    def traced_run():
        with _inside_conditional():
            return run()

    # The skipped side has to fill with zeros what the gradient of the other side keeps. Kept are
    # the convolutions' outputs alone, and the cheap rest is computed again from them.
    policy = _keep_convolutions
    return ops.cond(keep, jax.checkpoint(traced_run, prevent_cse=False, policy=policy), skip)


def compiles_conditionals_well() -> bool:
    """Whether XLA makes good code of convolutions in a conditional (`conditional_convolution`).

    On JAX we see to it; TensorFlow leaves us no say in how XLA gets its gradients.
    """
    if keras.config.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _keep_convolutions(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name == "conv_general_dilated"


@contextmanager
def _inside_conditional():
    token = _in_conditional.set(True)
    try:
        yield
    finally:
        _in_conditional.reset(token)


def conditional_convolution(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any | None:
    """Returns the convolution of a layer in a form whose gradient is fast in a conditional.

    XLA's CPU compiler brings a convolution with permuted dimensions, which is what a gradient is,
    into the form that its fast kernels take only outside conditionals, and computes it some
    fifteen times slower inside. None where this does not apply and the layer's own operation does.
    """
    if not _in_conditional.get() or layer.data_format != "channels_last":
        return None
    import jax

    if jax.default_backend() != "cpu":
        return None
    inputs = ops.convert_to_tensor(inputs)
    kernel = ops.convert_to_tensor(kernel, dtype=inputs.dtype)
    kernel_size = [
        (size - 1) * dilation + 1
        for size, dilation in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    ]
    padding = jax.lax.padtype_to_pads(
        inputs.shape[1:3], kernel_size, layer.strides, layer.padding.upper()
    )
    return _canonical_convolution(
        inputs, kernel, layer.strides, tuple(padding), layer.dilation_rate, layer.groups
    )


def _convolve(inputs, kernel, strides, padding, dilation, groups, input_dilation=(1, 1)):
    import jax

    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        lhs_dilation=input_dilation,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _canonical_convolution(inputs, kernel, strides, padding, dilation, groups):
    """A convolution whose gradients are convolutions of the same layout, NHWC and HWIO."""
    import jax

    height_width = range(2)
    spans = [(kernel.shape[axis] - 1) * dilation[axis] for axis in height_width]

    def forward(inputs, kernel):
        outputs = _convolve(inputs, kernel, strides, padding, dilation, groups)
        return outputs, (inputs, kernel)

    def backward(kept, gradient):
        inputs, kernel = kept
        batch, *sizes, channels = inputs.shape
        # What the strides reached of the padded input, from the first window to the last.
        reach = [(gradient.shape[1 + axis] - 1) * strides[axis] + 1 for axis in height_width]

        before = [spans[axis] - padding[axis][0] for axis in height_width]
        after = [sizes[axis] + spans[axis] - reach[axis] - before[axis] for axis in height_width]
        flipped = kernel[::-1, ::-1].reshape(*kernel.shape[:3], groups, -1)
        flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(*kernel.shape[:2], -1, channels)
        to_inputs = _convolve(
            gradient,
            flipped,
            (1, 1),
            list(zip(before, after, strict=True)),
            dilation,
            groups,
            input_dilation=strides,
        )

        # The batch takes the place of the channels, and the gradient that of the kernel.
        after = [
            reach[axis] + spans[axis] - sizes[axis] - padding[axis][0] for axis in height_width
        ]
        images = inputs.reshape(batch, *sizes, groups, -1).transpose(4, 1, 2, 3, 0)
        images = images.reshape(-1, *sizes, groups * batch)
        to_kernel = _convolve(
            images,
            gradient.transpose(1, 2, 0, 3),
            dilation,
            [(padding[axis][0], after[axis]) for axis in height_width],
            strides,
            groups,
        )
        return to_inputs, to_kernel.transpose(1, 2, 0, 3)

    convolution = jax.custom_vjp(lambda inputs, kernel: forward(inputs, kernel)[0])
    convolution.defvjp(forward, backward)
    return convolution(inputs, kernel)


def compiled(function, variables):
    """Returns `function` of tensors, compiled where a backend is slow without (JAX).

    Args:
        function: Callable of tensors, which writes to no variable outside of a stateless scope.
        variables: Every Keras variable that it reads, each time with its present value.
    """
    if keras.config.backend() != "jax":
        return function
    import jax

    @jax.jit
    def stateless(values, tensors):
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            return function(*tensors)

    def call(*tensors):
        tensors = [ops.convert_to_tensor(tensor) for tensor in tensors]
        return stateless([variable.value for variable in variables], tensors)

    return call


def jit(function):
    """Returns `function` of tensors and Python values, compiled by XLA where the backend has it."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)
    return function


def gradients(function, variables, tensors=(), state=()):
    """Returns the value and the gradients of a scalar function, on every backend.

    What the function would write to variables (moving statistics, seeds) is dropped.

    Args:
        function: Callable from `tensors` to a scalar. It may return `(scalar, auxiliary)`.
        variables: Keras variables to differentiate with respect to.
        tensors: Further inputs to differentiate with respect to.
        state: Other variables that it reads; needed where this is called inside `compiled`.

    Returns:
        `(result, variable_gradients, tensor_gradients)`, where `result` is what `function`
        returned.

    Raises:
        NotImplementedError: If the backend is none of tensorflow, jax and torch.
    """
    variables, tensors = list(variables), [ops.convert_to_tensor(tensor) for tensor in tensors]
    backend = keras.config.backend()
    if backend == "tensorflow":
        return _tensorflow_gradients(function, variables, tensors)
    if backend == "jax":
        return _jax_gradients(function, variables, tensors, list(state))
    if backend == "torch":
        return _torch_gradients(function, variables, tensors)
    raise NotImplementedError(
        "Gradients need the backend to be one of tensorflow, jax, torch. "
        f"Received: keras.config.backend()={backend!r}"
    )


def _scalar(result):
    return result[0] if isinstance(result, tuple) else result


def _tensorflow_gradients(function, variables, tensors):
    import tensorflow as tf

    # The tape knows tensors by identity: one that is given twice is two inputs.
    tensors = [tf.identity(tensor) for tensor in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        with keras.StatelessScope():
            result = function(*tensors)
    sources = [variable.value for variable in variables]
    found = tape.gradient(_scalar(result), sources + tensors)
    return result, found[: len(sources)], found[len(sources) :]


def _jax_gradients(function, variables, tensors, state):
    import jax

    others = [(variable, variable.value) for variable in state]

    def stateless(values, tensors):
        mapping = [*zip(variables, values, strict=True), *others]
        with keras.StatelessScope(state_mapping=mapping):
            result = function(*tensors)
        return _scalar(result), result

    values = [variable.value for variable in variables]
    differentiate = jax.jit(jax.value_and_grad(stateless, argnums=(0, 1), has_aux=True))
    (_, result), (of_variables, of_tensors) = differentiate(values, tensors)
    return result, of_variables, of_tensors


def _torch_gradients(function, variables, tensors):
    import torch

    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    with keras.StatelessScope():
        result = function(*tensors)
    sources = [variable.value for variable in variables]
    found = torch.autograd.grad(_scalar(result), sources + tensors, allow_unused=True)
    return result, list(found[: len(sources)]), list(found[len(sources) :])
