"""Gradients of one step that are computed in several parts, one after the other."""

import tensorflow as tf


class Accumulation:
    """Sums of what the parts of a batch give, kept by each replica for itself.

    Between steps they are zero, so they belong to no checkpoint. To be made in the scope of the
    strategy.

    Args:
        parts: Parts of each batch; with 1 nothing is kept.
        variables: Of which there are gradients.
        figures: How many further numbers are summed.
    """

    def __init__(self, parts: int, variables: list[tf.Variable], figures: int):
        self.parts = parts
        self._sums = []
        if parts > 1:
            shapes = [(figures,), *(variable.shape for variable in variables)]
            self._sums = [tf.Variable(tf.zeros(shape), trainable=False) for shape in shapes]

    def add(self, figures: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        """Adds what a part gave; to be called by each replica."""
        for total, value in zip(self._sums, [figures, *gradients], strict=True):
            total.assign_add(value)

    def take(self) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the sums, and begins anew; to be called by each replica."""
        figures, *gradients = [tf.identity(total) for total in self._sums]
        with tf.control_dependencies([figures, *gradients]):
            for total in self._sums:
                total.assign(tf.zeros_like(total))
        return figures, gradients
