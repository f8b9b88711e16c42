"""SGD, AdamW and LAMB with the weight decay of the papers.

All of it happens in `update_step`, which gets gradients that are reduced over all replicas, clipped
and accumulated: so it does the same in Keras' `fit`, on every backend, and in a loop of one's own.
Keras' own `weight_decay` stays unused: it is decoupled whatever the optimizer, and goes by names.
"""

import keras
from keras import ops

FORMS = ("l2", "decoupled")


class _WeightDecay:
    """What the optimizers share; `update_step` of the next class does the rest."""

    def __init__(self, decay=0.0, form="l2", decay_norm_and_bias=False):
        if decay < 0:
            raise ValueError(f"`decay` must be at least 0. Received: decay={decay}")
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {FORMS}. Received: form={form!r}")
        self.decay = float(decay)
        self.form = form
        self.decay_norm_and_bias = bool(decay_norm_and_bias)

    def decays(self, variable):
        """Whether weight decay applies to a variable.

        Kernels have more than one axis; biases and the parameters of normalization have one.
        """
        return bool(self.decay) and (self.decay_norm_and_bias or len(variable.shape) > 1)

    def _decayed(self, gradient, variable, learning_rate):
        """Decays the variable, or returns the gradient with the decay in it."""
        gradient = ops.cast(gradient, variable.dtype)
        if not self.decays(variable):
            return gradient
        if self.form == "l2":
            return gradient + self.decay * variable
        learning_rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, learning_rate * self.decay * variable)
        return gradient

    def _decay_config(self):
        return {
            "decay": self.decay,
            "form": self.form,
            "decay_norm_and_bias": self.decay_norm_and_bias,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class SGD(_WeightDecay, keras.optimizers.SGD):
    """SGD with momentum and weight decay.

    With `form="l2"` the gradient of λ/2·‖w‖² is added to that of the loss and goes through the
    momentum, as in the papers of the family; with `form="decoupled"` each step multiplies the
    weights with `1 - learning_rate * λ` first. The velocity holds the learning rate, as in Caffe
    and in Keras; in torch it does not, which differs only in the steps after a change of the rate.

    Args:
        learning_rate: A number or a schedule.
        momentum: What the velocity keeps.
        nesterov: Whether the momentum is Nesterov's.
        decay: λ.
        form: `"l2"` or `"decoupled"`.
        decay_norm_and_bias: Whether it also applies to parameters with a single axis.
        **kwargs: What every Keras optimizer takes, but `weight_decay`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        - [Sutskever et al., 2013, section 2](https://proceedings.mlr.press/v28/sutskever13.html)
    """

    def __init__(
        self,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=False,
        decay=0.0,
        form="l2",
        decay_norm_and_bias=False,
        **kwargs,
    ):
        _refuse_weight_decay(kwargs)
        keras.optimizers.SGD.__init__(
            self, learning_rate, momentum=momentum, nesterov=nesterov, **kwargs
        )
        _WeightDecay.__init__(self, decay, form, decay_norm_and_bias)

    def update_step(self, gradient, variable, learning_rate):
        """Changes a variable by its reduced gradient."""
        gradient = self._decayed(gradient, variable, learning_rate)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return _without_weight_decay({**super().get_config(), **self._decay_config()})


@keras.saving.register_keras_serializable(package="keras_resnet")
class AdamW(_WeightDecay, keras.optimizers.Adam):
    """Adam with decoupled weight decay.

    Args:
        learning_rate: A number or a schedule.
        beta_1: What the mean of the gradients keeps.
        beta_2: What the mean of their squares keeps.
        epsilon: Added to the root of the latter.
        decay: λ.
        form: `"decoupled"`: a step multiplies the weights with `1 - learning_rate * λ` first; or
            `"l2"`, which makes it Adam with a penalty.
        decay_norm_and_bias: Whether it also applies to parameters with a single axis.
        **kwargs: What every Keras optimizer takes, but `weight_decay`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        - [Loshchilov and Hutter, 2019, algorithm 2](https://arxiv.org/abs/1711.05101)
    """

    def __init__(
        self,
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        decay=0.0,
        form="decoupled",
        decay_norm_and_bias=False,
        **kwargs,
    ):
        _refuse_weight_decay(kwargs)
        keras.optimizers.Adam.__init__(
            self, learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, **kwargs
        )
        _WeightDecay.__init__(self, decay, form, decay_norm_and_bias)

    def update_step(self, gradient, variable, learning_rate):
        """Changes a variable by its reduced gradient."""
        gradient = self._decayed(gradient, variable, learning_rate)
        # Keras adds epsilon before it corrects the bias of the denominator, the papers after.
        rate = ops.cast(learning_rate, variable.dtype)
        update = _adam_update(self, gradient, variable)
        self.assign_sub(variable, rate * update)

    def get_config(self):
        """Returns the arguments of the constructor."""
        config = _without_weight_decay({**super().get_config(), **self._decay_config()})
        del config["amsgrad"]
        return config


@keras.saving.register_keras_serializable(package="keras_resnet")
class LAMB(_WeightDecay, keras.optimizers.Lamb):
    """Adam whose update, weight decay included, is scaled layer by layer with the weights' norm.

    `keras.optimizers.Lamb` leaves the weight decay out of what is scaled. As in the authors' code,
    parameters without weight decay are not scaled either: their update is Adam's.

    Args:
        learning_rate: A number or a schedule.
        beta_1: What the mean of the gradients keeps.
        beta_2: What the mean of their squares keeps.
        epsilon: Added to the root of the latter.
        decay: λ.
        form: `"decoupled"`, the paper's: λ·w is added to the update; or `"l2"`: to the gradient.
        decay_norm_and_bias: Whether it also applies to parameters with a single axis.
        **kwargs: What every Keras optimizer takes, but `weight_decay`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        - [You et al., 2020, algorithm 2](https://arxiv.org/abs/1904.00962)
    """

    def __init__(
        self,
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        decay=0.0,
        form="decoupled",
        decay_norm_and_bias=False,
        **kwargs,
    ):
        _refuse_weight_decay(kwargs)
        keras.optimizers.Lamb.__init__(
            self, learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, **kwargs
        )
        _WeightDecay.__init__(self, decay, form, decay_norm_and_bias)

    def update_step(self, gradient, variable, learning_rate):
        """Changes a variable by its reduced gradient."""
        gradient = ops.cast(gradient, variable.dtype)
        decays = self.decays(variable)
        if decays and self.form == "l2":
            gradient = gradient + self.decay * variable
        update = _adam_update(self, gradient, variable)
        if decays and self.form == "decoupled":
            update = update + self.decay * variable
        if decays or not self.decay:
            update = _trust_ratio(variable, update) * update
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return _without_weight_decay({**super().get_config(), **self._decay_config()})


def _adam_update(optimizer, gradient, variable):
    """Updates both means; returns the first by the root of the second, without bias."""
    index = optimizer._get_variable_index(variable)
    mean, square = optimizer._momentums[index], optimizer._velocities[index]
    step = ops.cast(optimizer.iterations + 1, variable.dtype)
    optimizer.assign_add(mean, (gradient - mean) * (1 - optimizer.beta_1))
    optimizer.assign_add(square, (ops.square(gradient) - square) * (1 - optimizer.beta_2))
    unbiased = mean / (1 - ops.power(ops.cast(optimizer.beta_1, variable.dtype), step))
    variance = square / (1 - ops.power(ops.cast(optimizer.beta_2, variable.dtype), step))
    return unbiased / (ops.sqrt(variance) + optimizer.epsilon)


def _trust_ratio(variable, update):
    # `ops.norm` takes at most two axes.
    weight, change = (ops.sqrt(ops.sum(ops.square(tensor))) for tensor in (variable, update))
    usable = ops.logical_and(weight > 0, change > 0)
    return ops.where(usable, weight / ops.where(usable, change, 1.0), 1.0)


def _refuse_weight_decay(arguments):
    if arguments.get("weight_decay") is not None:
        raise ValueError(
            "`weight_decay` is Keras' own, which is always decoupled; use `decay` and `form`. "
            f"Received: weight_decay={arguments['weight_decay']}"
        )


def _without_weight_decay(config):
    return {key: value for key, value in config.items() if key != "weight_decay"}
