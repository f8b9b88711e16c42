"""In which precision to train, and the loss scale that float16 needs."""

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

AUTO = "auto"
FLOAT32 = "float32"
BFLOAT16 = "mixed_bfloat16"
FLOAT16 = "mixed_float16"

_AMPERE = (8, 0)
_CPU_INFO = Path("/proc/cpuinfo")
# Of x86 processors, and of Arm's.
_CPU_FLAGS = re.compile(r"^(?:flags|Features)\s*:.*\b(avx512_bf16|amx_bf16|bf16)\b", re.MULTILINE)
# A gain below this is not told from noise, and half of the digits are a price.
_LEAST_GAIN = 1.1
_ROUNDS = 4
_STEPS = 3


@dataclass(frozen=True)
class Precision:
    """What the network computes in.

    Args:
        policy: A Keras dtype policy.
        reason: Why this one, for a person.
    """

    policy: str
    reason: str


def resolve(asked: str) -> Precision:
    """Returns the precision to train in.

    Args:
        asked: A dtype policy, or `"auto"`: `mixed_bfloat16` where this hardware computes a
            training step faster with it, else float32.
    """
    if asked != AUTO:
        return Precision(asked, "as configured")
    return _fastest()


@functools.cache
def _fastest() -> Precision:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        found = tf.config.experimental.get_device_details(gpus[0])
        capability = found.get("compute_capability", (0, 0))
        name = (
            f"{found.get('device_name', 'GPU')}, compute capability {capability[0]}.{capability[1]}"
        )
        return Precision(BFLOAT16 if capability >= _AMPERE else FLOAT32, name)
    flag = _CPU_FLAGS.search(_CPU_INFO.read_text()) if _CPU_INFO.is_file() else None
    if flag is None:
        return Precision(FLOAT32, "the processor has no bfloat16 arithmetic")
    gain = probe()
    policy = BFLOAT16 if gain >= _LEAST_GAIN else FLOAT32
    return Precision(policy, f"a trial step is {gain:.2f} times as fast in bfloat16 ({flag[1]})")


def probe() -> float:
    """Measures on the first device how many times as fast a training step is in bfloat16.

    A few convolutions of middling width, timed in turns; the best round of each counts.
    """
    steps = {policy: _step(policy) for policy in (FLOAT32, BFLOAT16)}
    best = dict.fromkeys(steps, float("inf"))
    for round_ in range(_ROUNDS + 1):
        for policy, step in steps.items():
            begin = time.perf_counter()
            for _ in range(_STEPS if round_ else 1):
                step()
            if round_:  # the first one traces
                best[policy] = min(best[policy], time.perf_counter() - begin)
    return best[FLOAT32] / best[BFLOAT16]


def _step(policy: str) -> Callable[[], tf.Tensor]:
    """Returns a compiled training step of a small network."""
    inputs = keras.Input((32, 32, 64))
    outputs = inputs
    for _ in range(3):
        branch = keras.layers.Conv2D(64, 3, padding="same", use_bias=False, dtype=policy)(outputs)
        branch = keras.layers.BatchNormalization(dtype=policy)(branch)
        outputs = keras.layers.Activation("relu", dtype=policy)(
            keras.layers.Add(dtype=policy)([outputs, branch])
        )
    model = keras.Model(inputs, outputs)
    images = tf.zeros((16, 32, 32, 64))
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(model(images, training=True), tf.float32))
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(loss, variables)])

    return lambda: step().numpy()


class LossScale:
    """A factor that keeps small gradients from vanishing in float16.

    It is halved when a gradient is not finite, on whichever replica, and doubled after many good
    steps. To be made in the scope of the strategy.

    Args:
        initial: The first factor, a power of 2.
        growth_steps: Good steps after which it is doubled.
    """

    def __init__(self, initial: float = 2.0**15, growth_steps: int = 2000):
        self._growth_steps = growth_steps
        only_one = {
            "trainable": False,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self.factor = tf.Variable(initial, dtype=tf.float32, **only_one)
        self.good_steps = tf.Variable(0, dtype=tf.int64, **only_one)

    def grow(self) -> None:
        """Counts a good step; to be called outside the replicas."""
        due = self.good_steps + 1 >= self._growth_steps
        self.factor.assign(tf.where(due, self.factor * 2, self.factor))
        self.good_steps.assign(tf.where(due, tf.zeros_like(self.good_steps), self.good_steps + 1))

    def shrink(self) -> None:
        """Halves the factor; to be called outside the replicas."""
        self.factor.assign(self.factor / 2)
        self.good_steps.assign(0)
