"""What the training loop reports to those who watch it."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Progress:
    """What the loop reports after each round of steps.

    Args:
        step: Steps done.
        loss: Mean training loss over the round.
        accuracy: Share of training examples of the round that were classified correctly; of mixed
            ones, as the greater part of the mixture.
        learning_rate: What the next step will use.
        images_per_second: Wall-clock rate over the round.
        seconds: Wall time of the round.
        input_wait: Seconds of it that steps waited for their batch.
        skipped: Steps of the round that float16 could not represent, and that changed nothing.
        losses: The loss of each step, float32; NaN where it was skipped.
        gradient_norms: The norm of each step's whole gradient before it is clipped, float32; of
            several replicas the sum of the norms of their parts, which is no smaller.
        loss_scale: That of float16, after the round; None in other precisions.
    """

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float = 0.0
    input_wait: float = 0.0
    skipped: int = 0
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), compare=False)
    gradient_norms: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.float32), compare=False
    )
    loss_scale: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and accuracy over a split.

    Args:
        loss: Nats per example.
        accuracy: Share of examples classified correctly.
        confusion: Number of examples by true and by predicted class; None where there are more
            than a thousand classes.
    """

    loss: float
    accuracy: float
    confusion: np.ndarray | None = field(default=None, compare=False)

    @property
    def by_class(self) -> dict[str, float]:
        """Means over the classes of which there are examples: `balanced_accuracy`, that of the
        recall; and of those that there are or that were said: `macro_f1`."""
        if self.confusion is None:
            return {}
        right, there = np.diag(self.confusion), self.confusion.sum(axis=1)
        named = there + self.confusion.sum(axis=0)
        recall = right[there > 0] / there[there > 0]
        f1 = 2 * right[named > 0] / named[named > 0]
        return {"balanced_accuracy": float(recall.mean()), "macro_f1": float(f1.mean())}
