"""The learning rate of every step of a training."""

import math

import keras
from keras import ops

KINDS = ("cosine", "multistep", "constant")


@keras.saving.register_keras_serializable(package="keras_resnet")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, and then a cosine, steps down at milestones, or a constant.

    Step 0 of a warm-up of `W` steps has `warmup_learning_rate`, step `W` the peak. The cosine goes
    from the peak at step `W` to the minimum at step `steps`. A milestone counts from the beginning,
    warm-up included: from that step on the learning rate is multiplied with `decay_factor`.

    Args:
        learning_rate: The peak.
        steps: Steps of the training.
        kind: `"cosine"`, `"multistep"` or `"constant"`.
        warmup_steps: Length of the warm-up.
        warmup_learning_rate: The learning rate of step 0 where there is a warm-up.
        minimum_learning_rate: Where the cosine ends; no milestone leads below it.
        milestones: Steps at which the learning rate is multiplied.
        decay_factor: With what it is multiplied.

    Raises:
        ValueError: If `kind` is unknown, or the warm-up takes all steps.

    Reference:
        - [Loshchilov and Hutter, 2017, section 3](https://arxiv.org/abs/1608.03983)
        - [Goyal et al., 2017, section 2.2](https://arxiv.org/abs/1706.02677)
    """

    def __init__(
        self,
        learning_rate,
        steps,
        kind="cosine",
        warmup_steps=0,
        warmup_learning_rate=0.0,
        minimum_learning_rate=0.0,
        milestones=(),
        decay_factor=0.1,
    ):
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}")
        if not 0 <= warmup_steps < steps:
            raise ValueError(
                f"`warmup_steps` must be less than the {steps} steps of the training. "
                f"Received: warmup_steps={warmup_steps}"
            )
        self.learning_rate = float(learning_rate)
        self.steps = int(steps)
        self.kind = kind
        self.warmup_steps = int(warmup_steps)
        self.warmup_learning_rate = float(warmup_learning_rate)
        self.minimum_learning_rate = float(minimum_learning_rate)
        self.milestones = tuple(int(milestone) for milestone in milestones)
        self.decay_factor = float(decay_factor)

    def __call__(self, step):
        """Returns the learning rate of a step, a float32 scalar.

        Args:
            step: Number of the step, from 0: an integer or a scalar tensor.
        """
        step = ops.cast(step, "float32")
        rate = self._after_warmup(step)
        if not self.warmup_steps:
            return rate
        climbed = step / self.warmup_steps
        rise = self.learning_rate - self.warmup_learning_rate
        return ops.where(climbed < 1.0, self.warmup_learning_rate + rise * climbed, rate)

    def _after_warmup(self, step):
        if self.kind == "constant":
            return ops.full_like(step, self.learning_rate)
        if self.kind == "multistep":
            passed = ops.zeros_like(step)
            for milestone in self.milestones:
                passed = passed + ops.cast(step >= milestone, "float32")
            factor = ops.power(ops.full_like(step, self.decay_factor), passed)
            return ops.maximum(self.learning_rate * factor, self.minimum_learning_rate)
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        share = 0.5 * (1.0 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))
        return self.minimum_learning_rate + share * (
            self.learning_rate - self.minimum_learning_rate
        )

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "kind": self.kind,
            "warmup_steps": self.warmup_steps,
            "warmup_learning_rate": self.warmup_learning_rate,
            "minimum_learning_rate": self.minimum_learning_rate,
            "milestones": list(self.milestones),
            "decay_factor": self.decay_factor,
        }
