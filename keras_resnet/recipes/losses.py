"""Losses from logits, for targets that may be shared among classes."""

import keras
from keras import ops

LOSSES = ("softmax", "bce")


def targets(labels, classes, label_smoothing=0.0):
    """Returns the probabilities that the network is to give, float32 `(examples, classes)`.

    Args:
        labels: Numbers of the classes, integers `(examples,)`.
        classes: Number of classes.
        label_smoothing: Share of each target that is spread over all classes.

    Reference:
        - [Szegedy et al., 2016, section 7](https://arxiv.org/abs/1512.00567)
    """
    sharp = ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
    return sharp * (1.0 - label_smoothing) + label_smoothing / classes


def softmax_loss(targets, logits):
    """Returns the cross-entropy of the softmax for each example, float32, in nats.

    Args:
        targets: Probabilities, `(examples, classes)`.
        logits: `(examples, classes)`, of any float type.
    """
    targets, logits = ops.cast(targets, "float32"), ops.cast(logits, "float32")
    return -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)


def bce_loss(targets, logits, threshold=None):
    """Returns the mean over the classes of the sigmoids' cross-entropies for each example, float32.

    Each class is a question of its own: a mixed image shows both of its classes.

    Args:
        targets: Probabilities, `(examples, classes)`.
        logits: `(examples, classes)`, of any float type.
        threshold: Targets above it count as 1, the others as 0; None to take them as they are.

    Reference:
        - [Wightman et al., 2021, section 3.1](https://arxiv.org/abs/2110.00476)
    """
    targets, logits = ops.cast(targets, "float32"), ops.cast(logits, "float32")
    if threshold is not None:
        targets = ops.cast(targets > threshold, "float32")
    return ops.mean(ops.softplus(logits) - targets * logits, axis=-1)


@keras.saving.register_keras_serializable(package="keras_resnet")
class RecipeLoss(keras.losses.Loss):
    """The loss of a recipe for `compile`: targets of shape `(examples, classes)`, and logits.

    Args:
        loss: `"softmax"` or `"bce"`.
        threshold: As in `bce_loss`.
        **kwargs: What every Keras loss takes.
    """

    def __init__(self, loss="softmax", threshold=None, **kwargs):
        super().__init__(**{"dtype": "float32", "name": "loss", **kwargs})
        self.loss = loss
        self.threshold = threshold

    def call(self, y_true, y_pred):
        """Returns the loss of each example."""
        if self.loss == "bce":
            return bce_loss(y_true, y_pred, self.threshold)
        return softmax_loss(y_true, y_pred)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "loss": self.loss, "threshold": self.threshold}
