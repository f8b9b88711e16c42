"""The batch normalization of the family."""

from typing import Any

import keras

from keras_resnet import _backend


@keras.saving.register_keras_serializable(package="keras_resnet")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalization, which trains in one operation where the backend has one.

    Keras normalises by a batch in some ten operations, each of which reads or writes all of the
    features; on a CPU with TensorFlow that is up to a third of a step of ResNet-50. The numbers are
    the same but for rounding, and so are arguments, variables and moving statistics. Inference is
    left as it is.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        plain = self.scale and self.center and not (self.synchronized or self.renorm)
        if not (training and self.trainable and plain and mask is None):
            return super().call(inputs, training=training, mask=mask)
        found = _backend.fused_batch_norm(inputs, self.gamma, self.beta, self.epsilon, self.axis)
        if found is None:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = found
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            before = keras.ops.cast(moving, "float32")
            moving.assign(before * self.momentum + value * (1.0 - self.momentum))
        return keras.ops.cast(outputs, self.compute_dtype)
