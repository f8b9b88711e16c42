"""What TensorBoard shows of a training."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api, api_pb2, summary

from keras_resnet.analysis import GradientFlow
from pipeline.training import figures
from pipeline.training.events import Events
from pipeline.training.insight import Insight
from pipeline.training.loop import Evaluation, Progress

# A network of more stages than this, of layers that are no blocks, would fill the page of scalars.
_STAGES = 20


class Logs:
    """TensorBoard's view of both splits: scalars have the same names, so that they share a chart.

    All of it is written between rounds of steps, and can be seen at once. The directory itself is
    the session of the plugin for hyperparameters, and holds what came out in the end.

    Args:
        directory: Receives a directory for each split. What an earlier process left there of later
            steps counts no longer.
        classes: Their names.
        step: Steps that are done.
        evaluated: Steps that were done when it was evaluated last.
        samples: Returns images of the batch that comes after so many steps, as the network sees
            them, but from 0 to 255, float32 of shape (number, height, width, 3).
        sampled_every: Samples are shown after so many steps.
        profiler: Is told after each round.
        insight: Is asked after each round.
    """

    def __init__(
        self,
        directory: Path,
        classes: tuple[str, ...],
        step: int,
        evaluated: int,
        samples: Callable[[int], np.ndarray],
        sampled_every: int,
        profiler: "Profiler | None" = None,
        insight: Insight | None = None,
    ):
        # It is short, and written anew by every process: there is one session however often it
        # was killed.
        self._session = Events(directory, 0)
        self._train = Events(directory / "train", step)
        self._eval = Events(directory / "eval", evaluated)
        self._classes = classes
        self._samples = samples
        self._sampled_every = sampled_every
        self._profiler = profiler
        self._insight = insight

    def begin(
        self,
        step: int,
        settings: dict[str, Any],
        model: keras.Model,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        """Writes what comes before the first step: the settings, the network and samples.

        Args:
            step: Steps that are done; where there are some, it has been written before.
            settings: JSON values.
            model: Of which the graph is shown.
            hyperparameters: What the training was asked for, by name.
        """
        self._session.add(api.hparams_pb(flattened(hyperparameters)))
        self._session.flush()
        if not step:
            self._train.text("settings", f"```\n{json.dumps(settings, indent=2)}\n```", step)
            self._train.graph(_graph(model))
            self._sample(step)
            self._train.flush()
        if self._profiler:
            self._profiler.after(step)

    def training(self, progress: Progress) -> None:
        """Writes what a round of steps showed."""
        if self._profiler:
            self._profiler.after(progress.step)
        for name, value in (
            ("loss", progress.loss),
            ("accuracy", progress.accuracy),
            ("learning_rate", progress.learning_rate),
            ("images_per_second", progress.images_per_second),
            ("input_wait", progress.input_wait / progress.seconds),
        ):
            self._train.scalar(name, value, progress.step)
        if progress.step % self._sampled_every == 0:
            self._sample(progress.step)
        if self._insight and (flow := self._insight.after(progress.step)):
            self._flow(flow, progress.step)
        self._train.flush()

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Writes what an evaluation after `step` steps showed."""
        self._eval.scalar("loss", evaluation.loss, step)
        self._eval.scalar("accuracy", evaluation.accuracy, step)
        counts = evaluation.confusion
        if counts is not None:
            drawn = figures.pixels(figures.confusion(counts, self._classes))
            self._eval.image("confusion", drawn, step)
            if len(self._classes) > figures.NAMED:
                table = figures.worst_pairs(counts, self._classes)
                self._eval.text("most_confused", table, step)
        self._eval.flush()

    def finish(self, results: Mapping[str, float], step: int) -> None:
        """Writes what came out after `step` steps, the last ones."""
        for name, value in results.items():
            self._session.scalar(f"final/{name}", value, step)
        self._session.add(summary.session_end_pb(api_pb2.STATUS_SUCCESS))
        self._session.flush()

    def close(self) -> None:
        """Writes what is left."""
        if self._profiler:
            self._profiler.close()
        self._session.close()
        self._train.close()
        self._eval.close()

    def _sample(self, step: int) -> None:
        pixels = np.rint(self._samples(step)).clip(0, 255).astype(np.uint8)
        self._train.image("augmented", figures.grid(pixels), step)

    def _flow(self, flow: GradientFlow, step: int) -> None:
        if len(flow.stages) <= _STAGES:
            for stage, norm in flow.stages.items():
                self._train.scalar(f"gradient_norm/{stage}", norm, step)
        for stage in dict.fromkeys(block.stage for block in flow.blocks):
            shares = [block.shortcut_share for block in flow.blocks if block.stage == stage]
            self._train.scalar(f"shortcut_share/{stage}", np.mean(shares), step)
        if flow.blocks:
            drawn = figures.pixels(figures.gradient_flow(flow))
            self._train.image("gradient_flow", drawn, step)


class Profiler:
    """Lets TensorFlow's profiler watch some steps, for the profile plugin of TensorBoard.

    It watches all rounds that contain one of the steps, and perhaps the one before.

    Args:
        directory: Where the profile goes.
        steps: The first and the last step to watch, from 1.
        steps_per_loop: Steps of a round at most.
    """

    def __init__(self, directory: Path, steps: tuple[int, int], steps_per_loop: int):
        self._directory = directory
        self._first, self._last = steps
        self._steps_per_loop = steps_per_loop
        self._watches = False

    def after(self, step: int) -> None:
        """Begins or ends watching, between two rounds, when `step` steps are done."""
        if self._watches and step >= self._last:
            self.close()
        elif not self._watches and self._first - self._steps_per_loop <= step < self._last:
            tf.profiler.experimental.start(str(self._directory))
            self._watches = True

    def close(self) -> None:
        """Writes the profile, if it watches."""
        if self._watches:
            self._watches = False
            tf.profiler.experimental.stop()


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Returns values as the plugin for hyperparameters takes them: no mappings or lists.

    What is None is left out, as it would make texts of the numbers of other runs.
    """
    found: dict[str, bool | float | str] = {}
    for name, value in values.items():
        match value:
            case None:
                continue
            case Mapping():
                found |= flattened(value, f"{prefix}{name}.")
            case bool() | int() | float() | str():
                found[f"{prefix}{name}"] = value
            case _:
                found[f"{prefix}{name}"] = json.dumps(value)
    return found


def _graph(model: keras.Model) -> tf.Graph:
    """Returns what a model computes for evaluation."""
    images = tf.TensorSpec(model.input_shape, tf.float32, "images")
    call = tf.function(lambda images: model(images, training=False), autograph=False)
    return call.get_concrete_function(images).graph
