"""The networks of this package on JAX."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

import keras_resnet

_ON_DEVICE = 2  # batches


class _OnJax:
    """A number of batches is a turn.

    Args:
        model: Name of the network, of `keras_resnet.list_models()`.
        size: Height and width of an image in pixels.
        classes: Of the classifier.
        batch: Images in a batch.
        count: Batches of a turn.
    """

    def __init__(self, model: str, size: int, classes: int, batch: int, count: int):
        keras.utils.set_random_seed(0)
        self._batch, self._count = batch, count
        self._model = keras_resnet.create(
            model,
            input_shape=(size, size, 3),
            classes=classes,
            classifier_activation=None,
            dtype="mixed_bfloat16",
        )
        random = np.random.default_rng(0)
        shape = (batch, size, size, 3)
        self._batches = [
            jax.device_put(
                (
                    random.normal(size=shape).astype(np.float32),
                    random.integers(0, classes, batch).astype(np.int32),
                )
            )
            for _ in range(_ON_DEVICE)
        ]

    def gpu_memory(self) -> int | None:
        """Returns the peak in bytes; None on a CPU."""
        found = jax.local_devices()[0].memory_stats()
        return None if found is None else found["peak_bytes_in_use"]


class Training(_OnJax):
    """A loop over a step that is compiled as a function of all that it changes.

    `fit` would bring batches that are on the GPU back to the CPU, and in again.
    """

    def __init__(self, **setting):
        super().__init__(**setting)
        model = self._model
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
        optimizer.build(model.trainable_variables)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        changed = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        self._state = [[variable.value for variable in variables] for variables in changed]

        def forward(weights, others, images, labels):
            logits, others = model.stateless_call(weights, others, images, training=True)
            return loss_of(labels, logits), others

        def step(state, images, labels):
            weights, others, slots = state
            differentiated = jax.value_and_grad(forward, has_aux=True)
            (loss, others), gradients = differentiated(weights, others, images, labels)
            weights, slots = optimizer.stateless_apply(slots, gradients, weights)
            return [weights, others, slots], loss

        self._step = jax.jit(step, donate_argnums=0)

    def run(self) -> int:
        for number in range(self._count):
            self._state, loss = self._step(self._state, *self._batches[number % _ON_DEVICE])
        jax.block_until_ready((self._state, loss))
        return self._count * self._batch


class Inference(_OnJax):
    """The network, compiled as a function of its weights."""

    def __init__(self, **setting):
        super().__init__(**setting)
        self._weights = [
            [variable.value for variable in variables]
            for variables in (self._model.trainable_variables, self._model.non_trainable_variables)
        ]

        @jax.jit
        def classify(weights, images):
            return self._model.stateless_call(*weights, images, training=False)[0]

        self._classify = classify

    def run(self) -> int:
        answers = [
            self._classify(self._weights, self._batches[number % _ON_DEVICE][0])
            for number in range(self._count)
        ]
        jax.block_until_ready(answers)
        return self._count * self._batch
