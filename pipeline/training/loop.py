"""The training loop on `tf.distribute`: one code for every strategy, one replica included."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.training.augmentation import Augmentation, Draws
from pipeline.training.inputs import Batch
from pipeline.training.precision import LossScale
from pipeline.training.preprocessing import Preprocessing, normalize

_SUM = tf.distribute.ReduceOp.SUM
_MEAN = tf.distribute.ReduceOp.MEAN
# Confusion matrices of more classes than this are not kept.
_CONFUSION_CLASSES = 1000
# After t steps of averaging, the weight of the average is at most (1 + t) / (10 + t).
_EMA_START = 10.0


@dataclass(frozen=True)
class Progress:
    """What the loop reports after each round of steps.

    Args:
        step: Steps done.
        loss: Mean training loss over the round, regularisation included.
        accuracy: Share of training examples of the round that were classified correctly.
        learning_rate: What the next step will use.
        images_per_second: Wall-clock rate over the round.
        seconds: Wall time of the round.
        input_wait: Seconds of it that steps waited for their batch.
        skipped: Steps of the round that float16 could not represent, and that changed nothing.
    """

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float = 0.0
    input_wait: float = 0.0
    skipped: int = 0


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


@dataclass(frozen=True)
class Objective:
    """What a step minimises, and what it does to images before.

    Args:
        preprocessing: What the network expects of its input.
        weight_decay: λ of the penalty λ/2·‖w‖² in the loss, on kernels only: convolution and
            dense kernels have more than one axis, biases and normalisation have one.
        label_smoothing: Share of the target that is spread over all classes.
        augmentation: What training images go through.
        seed: Determines the augmentation.
    """

    preprocessing: Preprocessing
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
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
        jit_compile: bool = False,
        deterministic: bool = False,
    ):
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._objective = objective
        self._loss_scale = loss_scale
        self._ema_decay = ema_decay
        self._deterministic = deterministic
        self._kernels = [w for w in model.trainable_weights if len(w.shape) > 1]
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            self._ema = [
                tf.Variable(weight.value, trainable=False)
                for weight in (self._averaged if ema_decay else ())
            ]
        # Of several replicas each keeps statistics of its own, and so their moving averages.
        moving = [weight for weight in model.non_trainable_weights if _is_moving(weight)]
        self._moving = [weight.value for weight in moving] + [
            average
            for average, weight in zip(self._ema, self._averaged, strict=False)
            if _is_moving(weight)
        ]
        # Always compiled: it is one pass over the pixels then, and the same random numbers
        # everywhere, which XLA does not draw as TensorFlow does.
        self._prepare = tf.function(self._prepared, jit_compile=True)
        compute = self._gradients
        self._compute = tf.function(compute, jit_compile=True) if jit_compile else compute

    @property
    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """Everything that a step changes, by name; to be written outside of steps.

        Beside the weights these are the states of the model's seed generators, the optimizer's
        variables, the moving averages and the loss scale.
        """
        found = {
            **_numbered("model", self._model.variables),
            **_numbered("optimizer", self._optimizer.variables),
            **_numbered("ema", self._ema),
        }
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

        Args:
            batches: `inputs.Batch` from step `start` on, distributed by the strategy.
            start: Steps done before.
            steps: Steps to be done in all.
            steps_per_epoch: A round never goes beyond a multiple of it.
            steps_per_loop: Steps inside one call of the compiled loop.

        Raises:
            FloatingPointError: The loss is no longer finite; the message says in which steps.
        """
        iterator = iter(batches)
        step = start
        while step < steps:
            count = min(steps_per_loop, steps_per_epoch - step % steps_per_epoch, steps - step)
            begin = time.perf_counter()
            loss, correct, wait, applied = (
                float(total) for total in self._train(iterator, tf.constant(count))
            )
            seconds = time.perf_counter() - begin
            self._require_finite(loss, step + 1, step + count)
            step += count
            yield Progress(
                step,
                loss / applied if applied else float("nan"),
                correct / (applied * self._batch_size) if applied else float("nan"),
                float(tf.convert_to_tensor(self._optimizer.learning_rate)),
                count * self._batch_size / seconds,
                seconds,
                wait,
                count - round(applied),
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

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the averaged weights inside, and its own again afterwards."""
        if not self._ema:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def seen(self, batch: Batch) -> tf.Tensor:
        """Returns what the network sees of a training batch: float32, augmented and normalised."""
        return self._prepare(batch)[0]

    def _require_finite(self, loss: float, first: int, last: int) -> None:
        if self._loss_scale:
            if float(self._loss_scale.factor.numpy()) >= 1.0:
                return
            what = "the loss scale of float16 fell below 1"
        elif np.isfinite(loss):
            return
        else:
            what = f"the loss is {loss}"
        raise FloatingPointError(
            f"{what} in steps {first} to {last}; lower trainer.learning_rate or train in float32"
        )

    @tf.function
    def _train(self, iterator: Iterator, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        totals = (tf.constant(0.0),) * 2 + (tf.constant(0.0, tf.float64), tf.constant(0.0))
        for _ in tf.range(count):
            totals = tuple(a + b for a, b in zip(totals, self._step(iterator, totals), strict=True))
        if self._strategy.num_replicas_in_sync > 1 and self._moving:
            self._strategy.run(self._average_moving_statistics)
        return totals

    def _step(self, iterator: Iterator, after: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Returns loss, hits, seconds of waiting, and whether the step counted, as numbers."""
        with tf.control_dependencies(after):
            begin = self._clock()
        with tf.control_dependencies([begin]):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            wait = self._clock() - begin
        if self._loss_scale is None:
            # One reduction for both: between machines each takes its time.
            loss, correct = tf.unstack(self._sum(self._strategy.run(self._replica_step, (batch,))))
            return loss, correct, wait, tf.constant(1.0)

        results, gradients, before = self._strategy.run(self._scaled_step, (batch,))
        loss, correct, bad = tf.unstack(self._sum(results))
        finite = tf.equal(bad, 0.0)  # on all replicas, or the step is none

        def apply() -> tf.Tensor:
            self._strategy.run(self._apply, (gradients,))
            self._loss_scale.grow()
            return tf.constant(1.0)

        def skip() -> tf.Tensor:
            self._strategy.run(self._restore, (before,))
            self._loss_scale.shrink()
            return tf.constant(0.0)

        applied = tf.cond(finite, apply, skip)
        loss, correct = (tf.where(finite, total, 0.0) for total in (loss, correct))
        return loss, correct, wait, applied

    def _clock(self) -> tf.Tensor:
        """Returns seconds, float64. TensorFlow has no clock where operations are deterministic."""
        if not self._deterministic:
            return tf.timestamp()
        return tf.ensure_shape(tf.numpy_function(time.perf_counter, [], tf.float64), ())

    def _replica_step(self, batch: Batch) -> tf.Tensor:
        loss, correct, gradients = self._compute(batch, 1.0)
        self._apply(gradients)
        return tf.stack([loss, correct])

    def _scaled_step(self, batch: Batch) -> tuple:
        """A step without its end: also whether a gradient is not finite, and what to restore."""
        before = [tf.identity(v.value) for v in self._model.non_trainable_weights]
        factor = self._loss_scale.factor.read_value()
        loss, correct, gradients = self._compute(batch, factor)
        gradients = [gradient / factor for gradient in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        results = tf.stack([loss, correct, 1.0 - tf.cast(finite, tf.float32)])
        return results, gradients, before

    def _gradients(self, batch: Batch, factor: tf.Tensor | float) -> tuple:
        """Returns this replica's part of the loss, its hits, and the gradients times `factor`."""
        objective = self._objective
        images, targets = self._prepare(batch)
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = tf.cast(self._model(images, training=True), tf.float32)
            entropy = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_sum(entropy * batch.weights) / self._batch_size
            if objective.weight_decay:
                penalty = tf.add_n([tf.nn.l2_loss(kernel.value) for kernel in self._kernels])
                replicas = self._strategy.num_replicas_in_sync
                loss += objective.weight_decay * penalty / replicas
            scaled = loss * factor
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        return loss, self._correct(batch.labels, logits, 1.0), gradients

    def _prepared(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the network sees of a training batch, and what it is to say of it."""
        objective = self._objective
        draws = Draws(objective.seed, batch.steps[0], batch.places, self._batch_size)
        images, targets = objective.augmentation(batch.images, self._targets(batch.labels), draws)
        return normalize(images, objective.preprocessing), targets

    def _targets(self, labels: tf.Tensor) -> tf.Tensor:
        classes = self._model.output_shape[-1]
        targets = tf.one_hot(labels, classes)
        smoothing = self._objective.label_smoothing
        return targets * (1 - smoothing) + smoothing / classes if smoothing else targets

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self._optimizer.apply(gradients, self._model.trainable_variables)
        if self._ema:
            done = tf.cast(self._optimizer.iterations.value, tf.float32)
            keep = tf.minimum(self._ema_decay, (1.0 + done) / (_EMA_START + done))
            for average, weight in zip(self._ema, self._averaged, strict=True):
                average.assign(weight.value + keep * (average - weight.value))

    def _restore(self, before: list[tf.Tensor]) -> None:
        for variable, value in zip(self._model.non_trainable_weights, before, strict=True):
            variable.assign(value)

    @property
    def _averaged(self) -> list[keras.Variable]:
        """The weights of which moving averages are kept, batch normalisation's statistics too."""
        return [weight for weight in self._model.weights if "float" in weight.dtype]

    def _average_moving_statistics(self) -> None:
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(_MEAN, [tf.identity(variable) for variable in self._moving])
        for variable, mean in zip(self._moving, means, strict=True):
            variable.assign(mean)

    @tf.function
    def _swap(self) -> None:
        self._strategy.run(self._swap_on_replica)

    def _swap_on_replica(self) -> None:
        for average, weight in zip(self._ema, self._averaged, strict=True):
            value = tf.identity(weight.value)
            weight.assign(average)
            average.assign(value)

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
