"""Stochastic depth: the layer, its schedules and the seed that differs between replicas."""

import keras
from keras import ops

from keras_resnet import _backend

MODES = ("sample", "batch")


@keras.saving.register_keras_serializable(package="keras_resnet")
class StochasticDepth(keras.layers.Layer):
    """Drops whole residual branches at random while training.

    In `mode="sample"` each sample of the batch keeps its branch with probability
    `p = 1 - rate`, survivors are scaled by `1 / p`, and inference leaves the branch as it is.
    In `mode="batch"`, the paper's form, one draw decides for the whole mini-batch (of each
    replica), survivors are not scaled, and inference multiplies the branch by `p`.
    The expectations of the two are equal, their variances are not.

    Called on the output of a branch, the layer masks it, and the work of the branch has been
    done. `add` takes the branch as a function instead: per batch it then really skips the
    branch of a training step, through a conditional on the device.

    On TensorFlow and a CPU, XLA makes training in `mode="batch"` some fifteen times slower, so
    the layer says that it does not support it: `jit_compile="auto"` then means no XLA, and
    `jit_compile=True` warns and does without.

    The layer goes right before the addition: never on the shortcut, and before any activation
    that follows the addition.

    Args:
        rate: Probability of dropping the branch, in `[0, 1)`. `0` makes the layer an identity
            without a seed.
        mode: `"sample"` or `"batch"`.
        seed: Integer to start the draws from; random by default. Each replica of a
            `tf.distribute` strategy draws its own masks from the same seed.
        **kwargs: What every Keras layer takes, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor `(batch, ...)`, the output of a residual branch.
        training: Whether to drop. Inference by default.

    Raises:
        ValueError: If `rate` is outside `[0, 1)` or `mode` is unknown.

    Example:

    ```python
    shortcut = keras.Input((32, 32, 16))
    branch = keras.layers.Conv2D(16, 3, padding="same")(shortcut)
    outputs = shortcut + StochasticDepth(0.2)(branch)
    ```

    Reference:
        - [Huang et al., 2016, section 3](https://arxiv.org/abs/1603.09382)
    """

    def __init__(self, rate, mode="sample", seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(
                "`rate` must be in [0, 1): a branch that is always dropped has no place in the "
                f"network. Received: rate={rate}"
            )
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {MODES}. Received: mode={mode!r}")
        self.rate = float(rate)
        self.mode = mode
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed) if self.rate else None
        self.supports_masking = True
        if self.rate and mode == "batch":
            self.supports_jit = _backend.compiles_conditionals_well()
        self._build_at_init()

    @property
    def survival_probability(self):
        return 1.0 - self.rate

    def call(self, inputs, training=None):
        if not self.rate:
            return inputs
        if self.mode == "sample":
            if not training:
                return inputs
            ones = (1,) * (len(inputs.shape) - 1)
            survives = self._draw((ops.shape(inputs)[0], *ones))
            return ops.where(survives, inputs / self.survival_probability, 0)
        if not training:
            return inputs * self.survival_probability
        return inputs * ops.cast(self._draw(()), inputs.dtype)

    def add(self, shortcut, branch, state=(), training=None):
        """Returns the shortcut plus the branch, and skips the work of a dropped branch.

        Only the per-batch form of a training step skips; otherwise this is
        `shortcut + self(branch())`.

        Args:
            shortcut: Tensor that the output of the branch is added to.
            branch: Callable without arguments that computes the branch; a tensor of the shape
                and dtype of `shortcut`.
            state: Every variable that `branch` assigns to: the moving statistics of its
                batch normalization, the seeds of its dropout. They leave the conditional as
                values and are assigned here, and keep their values when the branch is skipped.
            training: Whether the branch may be dropped.

        Returns:
            A tensor like `shortcut`.
        """
        if not (training and self.rate and self.mode == "batch"):
            return shortcut + self(branch(), training=training)
        state = list(state)

        def survive():
            with _Deferred() as deferred:
                outputs = shortcut + branch()
                values = [deferred.current_value(variable) for variable in state]
            return outputs, values

        def skip():
            with _Deferred() as deferred:
                return shortcut, [deferred.current_value(variable) for variable in state]

        outputs, values = _backend.run_if(self._draw(()), survive, skip)
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        return outputs

    def _draw(self, shape):
        """Returns booleans that are true with the survival probability."""
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "mode": self.mode, "seed": self.seed}


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A seed generator whose draws differ between the replicas of a `tf.distribute` strategy.

    Keras mirrors the state of its seed generators, so that every replica would mask the same
    positions of its share of the batch.
    """

    # Far from the small steps at which people space the seeds of neighbouring layers.
    _STEP = 1_000_003

    def next(self, ordered=True):
        seed = super().next(ordered)
        replica = _backend.replica_id()
        if replica is None:
            return seed
        offset = ops.cast(replica, seed.dtype) * self._STEP
        return seed + ops.stack([offset, ops.zeros_like(offset)])


class _Deferred(keras.StatelessScope):
    """Keeps assignments back, on top of the values of the stateless scope around it.

    JAX trains inside a stateless scope that holds the traced values of all variables; a plain
    inner scope would hide them.
    """

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def current_value(self, variable):
        value = self.get_current_value(variable)
        return variable.value if value is None else value


def linear(rate, depths):
    """Drop rates that grow with the block as `rate * l / L`, for block `l` of `L` from 1.

    The paper's rule (Huang et al., 2016, equation 4, with `rate = 1 - p_L`).

    Args:
        rate: Drop rate of the last block.
        depths: Number of blocks of each stage.

    Returns:
        A tuple of rates for each stage.
    """
    total = sum(depths)
    return _by_stage([rate * block / total for block in range(1, total + 1)], depths)


def timm(rate, depths):
    """Drop rates that grow as `rate * (l - 1) / (L - 1)`, so that the first block always stays.

    The rule of PyTorch Image Models. A single block gets the rate 0. Arguments and result are
    those of `linear`.
    """
    last = max(sum(depths) - 1, 1)
    return _by_stage([rate * block / last for block in range(sum(depths))], depths)


def stage(rate, depths):
    """Drop rates that are the same within a stage: `rate * (s + 1) / (S + 1)`, `s` from 1.

    The rule of ResNet-RS (Bello et al., 2021): 2/5, 3/5, 4/5 and 5/5 of the rate for four
    stages. Arguments and result are those of `linear`.
    """
    stages = len(depths)
    return tuple((rate * (s + 1) / (stages + 1),) * depth for s, depth in enumerate(depths, 1))


SCHEDULES = {"linear": linear, "timm": timm, "stage": stage}


def _by_stage(rates, depths):
    remaining = iter(rates)
    return tuple(tuple(next(remaining) for _ in range(depth)) for depth in depths)
