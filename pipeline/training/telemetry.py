"""What TensorBoard shows of a training."""

from pathlib import Path

import tensorflow as tf

from pipeline.training.loop import Evaluation, Progress


class Logs:
    """TensorBoard scalars of both splits, under the same names, so that they share a chart.

    Args:
        directory: Receives a directory for each split; what is there already is added to.
    """

    def __init__(self, directory: Path):
        self._train = tf.summary.create_file_writer(str(directory / "train"))
        self._eval = tf.summary.create_file_writer(str(directory / "eval"))

    def training(self, progress: Progress) -> None:
        """Writes what a round of steps showed."""
        with self._train.as_default(step=progress.step):
            tf.summary.scalar("loss", progress.loss)
            tf.summary.scalar("accuracy", progress.accuracy)
            tf.summary.scalar("learning_rate", progress.learning_rate)
            tf.summary.scalar("images_per_second", progress.images_per_second)
            tf.summary.scalar("input_wait", progress.input_wait / progress.seconds)

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Writes what an evaluation after `step` steps showed."""
        with self._eval.as_default(step=step):
            tf.summary.scalar("loss", evaluation.loss)
            tf.summary.scalar("accuracy", evaluation.accuracy)
        self._train.flush()
        self._eval.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._train.close()
        self._eval.close()
