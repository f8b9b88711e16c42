"""The training loop on `tf.distribute`: one code for every strategy, one replica included."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Progress:
    """What the loop reports after each round of steps.

    Args:
        step: Steps done.
        loss: Mean training loss over the round, regularisation included.
        accuracy: Share of training examples of the round that were classified correctly.
        learning_rate: What the next step will use.
        images_per_second: Wall-clock rate over the round.
    """

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and accuracy over a split.

    Args:
        loss: Nats per example.
        accuracy: Share of examples classified correctly.
    """

    loss: float
    accuracy: float


class Loop:
    """Trains a Keras model under a strategy.

    The loss is the sum over the global batch divided by its size, so that a step does the same
    whatever the number of replicas. Batch normalisation has to be synchronised where there are
    several (`bn_synchronized`); otherwise each replica would keep statistics of its own.

    Args:
        strategy: The strategy under whose scope the model was built.
        model: Maps images to logits, float32.
        optimizer: Built under the same scope.
        batch_size: Examples per step, of all replicas together.
        weight_decay: λ of the penalty λ/2·‖w‖² in the loss, on kernels only: convolution and
            dense kernels have more than one axis, biases and normalisation have one.
        label_smoothing: Share of the target that is spread over all classes.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        batch_size: int,
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
    ):
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._weight_decay = weight_decay
        self._label_smoothing = label_smoothing
        self._kernels = [w for w in model.trainable_weights if len(w.shape) > 1]
        with strategy.scope():
            optimizer.build(model.trainable_variables)

    def fit(
        self,
        batches: tf.data.Dataset,
        steps: int,
        steps_per_epoch: int,
        steps_per_loop: int,
    ) -> Iterator[Progress]:
        """Trains for `steps` steps, and yields after `steps_per_loop` of them and at the end of
        every epoch.

        Raises:
            FloatingPointError: The loss is no longer finite; the message says in which steps.
        """
        iterator = iter(self._strategy.experimental_distribute_dataset(batches))
        step = 0
        while step < steps:
            count = min(steps_per_loop, steps_per_epoch - step % steps_per_epoch)
            begin = time.perf_counter()
            loss, correct = self._train(iterator, tf.constant(count))
            loss = float(loss) / count
            if not tf.math.is_finite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} in steps {step + 1} to {step + count}; "
                    "lower trainer.learning_rate or train in float32"
                )
            step += count
            images = count * self._batch_size
            yield Progress(
                step,
                loss,
                float(correct) / images,
                float(tf.convert_to_tensor(self._optimizer.learning_rate)),
                images / (time.perf_counter() - begin),
            )

    def evaluate(self, batches: tf.data.Dataset) -> Evaluation:
        """Returns loss and accuracy over `batches` of `(images, labels, weights)`."""
        totals = [0.0, 0.0, 0.0]
        for batch in self._strategy.experimental_distribute_dataset(batches):
            totals = [a + float(b) for a, b in zip(totals, self._evaluate(batch), strict=True)]
        loss, correct, weight = totals
        return Evaluation(loss / weight, correct / weight)

    def _loss(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the cross-entropy of each example."""
        classes = logits.shape[-1]
        targets = tf.one_hot(labels, classes)
        if self._label_smoothing:
            targets = targets * (1 - self._label_smoothing) + self._label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    @tf.function
    def _train(self, iterator: Iterator, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loss = correct = tf.constant(0.0)
        for _ in tf.range(count):
            results = self._strategy.run(self._replica_step, args=(next(iterator),))
            loss += self._sum(results[0])
            correct += self._sum(results[1])
        return loss, correct

    def _replica_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(images, training=True)
            loss = tf.reduce_sum(self._loss(labels, logits)) / self._batch_size
            if self._weight_decay:
                penalty = tf.add_n([tf.nn.l2_loss(kernel.value) for kernel in self._kernels])
                replicas = self._strategy.num_replicas_in_sync
                loss += self._weight_decay * penalty / replicas
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizer.apply(gradients, variables)
        return loss, self._correct(labels, logits, 1.0)

    @tf.function
    def _evaluate(self, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return tuple(self._sum(r) for r in self._strategy.run(self._evaluate_step, args=(batch,)))

    def _evaluate_step(self, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        images, labels, weights = batch
        logits = self._model(images, training=False)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return (
            tf.reduce_sum(entropy * weights),
            self._correct(labels, logits, weights),
            tf.reduce_sum(weights),
        )

    @staticmethod
    def _correct(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | float) -> tf.Tensor:
        hits = tf.equal(tf.argmax(logits, axis=-1), labels)
        return tf.reduce_sum(tf.cast(hits, tf.float32) * weights)

    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
