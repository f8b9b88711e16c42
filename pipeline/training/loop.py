"""The training loop on `tf.distribute`: one code for every strategy, one replica included."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.recipes import Augmentation, Recipe
from pipeline.training.accumulation import Accumulation
from pipeline.training.average import Average
from pipeline.training.draws import Draws
from pipeline.training.inputs import Batch
from pipeline.training.precision import LossScale
from pipeline.training.preprocessing import Preprocessing, normalize
from pipeline.training.reports import Evaluation, Progress

_SUM = tf.distribute.ReduceOp.SUM
_MEAN = tf.distribute.ReduceOp.MEAN
# Confusion matrices of more classes than this are not kept.
_CONFUSION_CLASSES = 1000
# What is noted of every step: loss, hits, norm of the gradient, and whether the step counted.
_NOTED = 4


@dataclass(frozen=True)
class Objective:
    """What a step minimises, and what it does to images before.

    Args:
        preprocessing: What the network expects of its input.
        recipe: Gives targets and loss.
        augmentation: What training images go through.
        seed: Determines the augmentation.
    """

    preprocessing: Preprocessing
    recipe: Recipe = field(default_factory=Recipe)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0


class Loop:
    """Trains a Keras model under a strategy.

    The loss is the sum over the global batch divided by its size, so that a step does the same
    whatever the number of replicas. Where there are several, the moving statistics of batch
    normalisation are averaged over them at the end of each round, so that no replica's own are
    evaluated, saved or exported.

    Args:
        strategy: The strategy under whose scope the model was built.
        model: Maps images to logits.
        optimizer: Built under the same scope.
        batch_size: Examples per step, of all replicas together.
        objective: What a step minimises.
        loss_scale: For float16, made under the same scope.
        ema_decay: What a step keeps of the moving average of the weights, which is what is
            evaluated and exported; 0 for none.
        clip_norm: Greatest norm of the whole gradient, of all replicas together: a longer one is
            shortened to it (Pascanu et al., 2013, section 3.2). None for no limit.
        accumulate: Each replica computes its part of a batch in so many parts, one after the
            other, and then makes one step. In memory is one part at a time. The gradient is that
            of the whole batch, but batch normalisation sees each part for itself.
        learning_rate_scale: A variable that a step leaves alone but that belongs to the state,
            made under the same scope.
        jit_compile: Whether XLA compiles what each replica computes.
        deterministic: Whether TensorFlow's operations are held to be deterministic.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        batch_size: int,
        objective: Objective,
        *,
        loss_scale: LossScale | None = None,
        ema_decay: float = 0.0,
        clip_norm: float | None = None,
        accumulate: int = 1,
        learning_rate_scale: tf.Variable | None = None,
        jit_compile: bool = False,
        deterministic: bool = False,
    ):
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._objective = objective
        self._loss_scale = loss_scale
        self._clip_norm = clip_norm
        self._learning_rate_scale = learning_rate_scale
        self._deterministic = deterministic
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            self._accumulation = Accumulation(
                accumulate, [variable.value for variable in model.trainable_variables], 2
            )
        self._average = Average(strategy, model.weights, ema_decay)
        # Of several replicas each keeps statistics of its own, and so their moving averages.
        moving = [weight for weight in model.non_trainable_weights if _is_moving(weight)]
        self._moving = [weight.value for weight in moving] + self._average.of(moving)
        # Always compiled: it is one pass over the pixels then, and the same random numbers
        # everywhere, which XLA does not draw as TensorFlow does.
        self._prepare = tf.function(self._prepared, jit_compile=True)
        compute = self._gradients
        self._compute = tf.function(compute, jit_compile=True) if jit_compile else compute

    @property
    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """Everything that a step changes, by name; to be written outside of steps.

        Beside the weights these are the states of the model's seed generators, the optimizer's
        variables, the moving averages, the loss scale and the scale of the learning rate.
        """
        found = {
            **_numbered("model", self._model.variables),
            **_numbered("optimizer", self._optimizer.variables),
            **_numbered("ema", self._average.variables),
        }
        if self._learning_rate_scale is not None:
            found["learning_rate/scale"] = self._learning_rate_scale
        if self._loss_scale:
            found["loss_scale/factor"] = self._loss_scale.factor
            found["loss_scale/good_steps"] = self._loss_scale.good_steps
        return found

    def fit(
        self,
        batches: tf.data.Dataset,
        start: int,
        steps: int,
        steps_per_epoch: int,
        steps_per_loop: int,
    ) -> Iterator[Progress]:
        """Trains from step `start` to step `steps`, and yields after `steps_per_loop` of them and
        at the end of every epoch.

        What is computed is not judged here: loss and gradient may be no numbers any more.

        Args:
            batches: `inputs.Batch` from step `start` on, distributed by the strategy, each in as
                many parts as gradients are accumulated.
            start: Steps done before.
            steps: Steps to be done in all.
            steps_per_epoch: A round never goes beyond a multiple of it.
            steps_per_loop: Steps inside one call of the compiled loop.
        """
        iterator = iter(batches)
        step = start
        while step < steps:
            count = min(steps_per_loop, steps_per_epoch - step % steps_per_epoch, steps - step)
            begin = time.perf_counter()
            noted, wait = self._train(iterator, tf.constant(count))
            noted, wait = noted.numpy(), float(wait)
            seconds = time.perf_counter() - begin
            step += count
            losses, correct, norms, counted = noted.T
            applied = counted.sum()
            yield Progress(
                step,
                float(losses.sum() / applied) if applied else float("nan"),
                float(correct.sum() / (applied * self._batch_size)) if applied else float("nan"),
                float(tf.convert_to_tensor(self._optimizer.learning_rate)),
                count * self._batch_size / seconds,
                seconds,
                wait,
                count - round(applied),
                np.where(counted, losses, np.float32("nan")),
                norms,
                float(self._loss_scale.factor.numpy()) if self._loss_scale else None,
            )

    def evaluate(self, batches: tf.data.Dataset, steps: int) -> Evaluation:
        """Returns loss and accuracy over `steps` batches of `inputs.Batch`.

        Where the weights are averaged, it is their average that is evaluated.
        """
        with self.averaged():
            loss, correct, weight, confusion = self._evaluate(iter(batches), tf.constant(steps))
        classes = self._model.output_shape[-1]
        return Evaluation(
            float(loss) / float(weight),
            float(correct) / float(weight),
            confusion.numpy().reshape(classes, classes).astype(np.int64)
            if len(confusion)
            else None,
        )

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model has the averaged weights inside, and its own again afterwards."""
        return self._average.swapped_in()

    def seen(self, batch: Batch) -> tf.Tensor:
        """Returns what the network sees of a training batch: float32, augmented and normalised."""
        return self._prepare(batch)[0]

    def prepared(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the network sees of a training batch, and the targets, by class."""
        return self._prepare(batch)

    @tf.function
    def _train(self, iterator: Iterator, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what is noted of each step, float32 of shape (count, 4), and the seconds of
        waiting."""
        noted = tf.TensorArray(tf.float32, count, element_shape=(_NOTED,))
        last, waited = tf.zeros(_NOTED), tf.constant(0.0, tf.float64)
        for number in tf.range(count):
            last, wait = self._step(iterator, last)
            noted = noted.write(number, last)
            waited += wait
        if self._strategy.num_replicas_in_sync > 1 and self._moving:
            self._strategy.run(self._average_moving_statistics)
        return noted.stack(), waited

    def _step(self, iterator: Iterator, after: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what is noted of a step, and the seconds that it waited for its input."""
        before = self._strategy.run(self._kept) if self._loss_scale else []
        if self._accumulation.parts == 1:
            batch, wait = self._next(iterator, after)
            compute, arguments = self._computed, (batch,)
        else:
            wait = self._add_parts(iterator, after)
            compute, arguments = self._summed, ()
        if self._loss_scale is None:

            def whole(*arguments: Batch) -> tf.Tensor:
                figures, gradients = compute(*arguments)
                self._apply(gradients)
                return figures

            # One reduction for all: between machines each takes its time.
            figures = self._sum(self._strategy.run(whole, arguments))
            return tf.concat([figures, [1.0]], 0), wait

        figures, gradients = self._strategy.run(compute, arguments)
        figures = self._sum(figures)
        finite = tf.math.is_finite(figures[-1])  # on all replicas, or the step is none

        def apply() -> tf.Tensor:
            self._strategy.run(self._apply, (gradients,))
            self._loss_scale.grow()
            return tf.concat([figures, [1.0]], 0)

        def skip() -> tf.Tensor:
            self._strategy.run(self._restore, (before,))
            self._loss_scale.shrink()
            return tf.stack([0.0, 0.0, figures[-1], 0.0])

        return tf.cond(finite, apply, skip), wait

    def _add_parts(self, iterator: Iterator, after: tf.Tensor) -> tf.Tensor:
        """Accumulates the parts of a batch; returns the seconds of waiting for them."""
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(self._accumulation.parts):
            # Or TensorFlow may begin with a part while another one is still in memory.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            batch, wait = self._next(iterator, after)
            self._strategy.run(self._add_part, (batch,))
            waited += wait
        return waited

    def _next(self, iterator: Iterator, after: tf.Tensor) -> tuple[Batch, tf.Tensor]:
        """Returns the next batch, and the seconds that it took to come."""
        with tf.control_dependencies([after]):
            begin = self._clock()
        with tf.control_dependencies([begin]):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            return batch, self._clock() - begin

    def _clock(self) -> tf.Tensor:
        """Returns seconds, float64. TensorFlow has no clock where operations are deterministic."""
        if not self._deterministic:
            return tf.timestamp()
        return tf.ensure_shape(tf.numpy_function(time.perf_counter, [], tf.float64), ())

    def _kept(self) -> list[tf.Tensor]:
        """Returns what is to be restored when the step is none."""
        return [tf.identity(v.value) for v in self._model.non_trainable_weights]

    def _computed(self, batch: Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns loss, hits and norm of this replica's part of a batch, and its gradients."""
        factor = self._factor
        loss, correct, norm, gradients = self._compute(batch, factor)
        if self._loss_scale is not None:
            gradients = [gradient / factor for gradient in gradients]
        return tf.stack([loss, correct, norm / factor]), gradients

    def _add_part(self, batch: Batch) -> None:
        loss, correct, _, gradients = self._compute(batch, self._factor)
        self._accumulation.add(tf.stack([loss, correct]), gradients)

    def _summed(self) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns what `_computed` does, of the parts that were added."""
        figures, gradients = self._accumulation.take()
        if self._loss_scale is not None:
            factor = self._factor
            gradients = [gradient / factor for gradient in gradients]
        return tf.concat([figures, [tf.linalg.global_norm(gradients)]], 0), gradients

    @property
    def _factor(self) -> tf.Tensor | float:
        """What the loss is multiplied by before it is differentiated."""
        return 1.0 if self._loss_scale is None else self._loss_scale.factor.read_value()

    def _gradients(self, batch: Batch, factor: tf.Tensor | float) -> tuple:
        """Returns this replica's part of the loss, its hits, and the norm of its gradients and
        these, both times `factor`."""
        objective = self._objective
        images, targets = self._prepare(batch)
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = tf.cast(self._model(images, training=True), tf.float32)
            losses = objective.recipe.loss_per_example(targets, logits)
            loss = tf.reduce_sum(losses * batch.weights) / self._batch_size
            scaled = loss * factor
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        correct = self._correct(tf.argmax(targets, axis=-1), logits, 1.0)
        return loss, correct, tf.linalg.global_norm(gradients), gradients

    def _prepared(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the network sees of a training batch, and what it is to say of it."""
        objective = self._objective
        draws = Draws(objective.seed, batch.steps[0], batch.places, self._batch_size)
        classes = self._model.output_shape[-1]
        targets = objective.recipe.targets(batch.labels, classes)
        images, targets = objective.augmentation(batch.images, targets, draws)
        return normalize(images, objective.preprocessing), targets

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        """Makes a step along the sum of the gradients of all replicas."""
        if self._clip_norm is not None:
            whole = gradients
            if self._strategy.num_replicas_in_sync > 1:
                whole = tf.distribute.get_replica_context().all_reduce(_SUM, gradients)
            # The optimizer sums the gradients once more, so each replica shortens its own part.
            factor = tf.minimum(1.0, self._clip_norm / tf.linalg.global_norm(whole))
            gradients = [factor * gradient for gradient in gradients]
        self._optimizer.apply(gradients, self._model.trainable_variables)
        self._average.update(self._optimizer.iterations.value)

    def _restore(self, before: list[tf.Tensor]) -> None:
        for variable, value in zip(self._model.non_trainable_weights, before, strict=True):
            variable.assign(value)

    def _average_moving_statistics(self) -> None:
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(_MEAN, [tf.identity(variable) for variable in self._moving])
        for variable, mean in zip(self._moving, means, strict=True):
            variable.assign(mean)

    @tf.function
    def _evaluate(self, iterator: Iterator, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        classes = self._model.output_shape[-1]
        cells = classes * classes if classes <= _CONFUSION_CLASSES else 0
        totals = (tf.constant(0.0),) * 3 + (tf.zeros(cells),)
        for _ in tf.range(count):
            results = self._strategy.run(self._evaluate_step, (next(iterator), cells))
            totals = tuple(a + self._sum(b) for a, b in zip(totals, results, strict=True))
        return totals

    def _evaluate_step(self, batch: Batch, cells: int) -> tuple[tf.Tensor, ...]:
        images = normalize(batch.images, self._objective.preprocessing)
        logits = tf.cast(self._model(images, training=False), tf.float32)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        confusion = tf.zeros(0)
        if cells:
            predicted = tf.argmax(logits, axis=-1)
            cell = tf.cast(batch.labels * logits.shape[-1] + predicted, tf.int32)
            confusion = tf.math.unsorted_segment_sum(batch.weights, cell, cells)
        return (
            tf.reduce_sum(entropy * batch.weights),
            self._correct(batch.labels, logits, batch.weights),
            tf.reduce_sum(batch.weights),
            confusion,
        )

    @staticmethod
    def _correct(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
        hits = tf.equal(tf.argmax(logits, axis=-1), labels)
        return tf.reduce_sum(tf.cast(hits, tf.float32) * weights)

    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        return self._strategy.reduce(_SUM, value, axis=None)


def _is_moving(weight: keras.Variable) -> bool:
    """Whether a weight is a moving statistic, as those of batch normalisation are."""
    return weight.path.rsplit("/", 1)[-1].startswith("moving_")


def _numbered(kind: str, variables: list[keras.Variable | tf.Variable]) -> dict[str, Any]:
    """Names variables by their order: Keras numbers layers by what the process made before."""
    return {f"{kind}/{number:04}": variable for number, variable in enumerate(variables)}
