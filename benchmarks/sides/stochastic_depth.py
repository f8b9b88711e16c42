"""Training steps of the network of Huang et al. (2016)."""

import keras
import numpy as np

import keras_resnet

_WARM_UP = 2  # steps, of which the first compiles


class Training:
    """A number of steps is a turn.

    Args:
        depth: Layers, 6 n + 2.
        rate: Drop rate of the last block.
        batch: Images of a step.
        steps: Of a turn.
    """

    def __init__(self, depth: int, rate: float, batch: int, steps: int):
        random = np.random.default_rng(0)
        self._images = random.normal(size=(batch, 32, 32, 3)).astype("float32")
        self._labels = random.integers(10, size=batch)
        self._steps = steps
        self._model = keras_resnet.create(
            "cifar_resnet110_sd", depths=((depth - 2) // 6,) * 3, drop_path_rate=rate, seed=1
        )
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
        # On TensorFlow's CPU XLA compiles the conditionals into slow code.
        jit = keras.config.backend() == "jax"
        self._model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit)
        self._train(_WARM_UP)

    def run(self) -> int:
        self._train(self._steps)
        return self._steps * len(self._images)

    def _train(self, steps: int) -> None:
        for _ in range(steps):
            self._model.train_on_batch(self._images, self._labels)
