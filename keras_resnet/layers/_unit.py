"""What the two residual blocks have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_resnet._validation import (
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_rate,
)
from keras_resnet.layers._composite import CONV_BIAS, CompositeLayer, Shape
from keras_resnet.layers.dropout import Dropout
from keras_resnet.layers.shortcut import SHORTCUTS, Shortcut
from keras_resnet.layers.squeeze_excite import SqueezeExcite
from keras_resnet.layers.stochastic_depth import MODES as DROP_PATH_MODES
from keras_resnet.layers.stochastic_depth import StochasticDepth

# He et al., 2016, figure 4, (a) to (e).
ORDERS = (
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preactivation",
    "full_preactivation",
)
PREACTIVATION = ("relu_only_preactivation", "full_preactivation")


@dataclass(frozen=True)
class Conv:
    """One convolution of a residual branch."""

    filters: int
    kernel_size: int
    strides: int = 1
    groups: int = 1
    dilation: int = 1


class ResidualUnit(CompositeLayer):
    """A residual branch of convolutions beside a shortcut.

    A subclass takes the arguments below in its constructor, and ends it with a call of
    `_assemble`, which gets the convolutions of the branch. `call` shows the unit as a whole.

    The sublayers are `conv1`, `bn1`, `conv2`, ..., `se`, `dropout`, `drop_path` and `shortcut`; one
    that is not in use is None. In every order `bn{i}` belongs to `conv{i}`: it precedes it in full
    pre-activation and follows it elsewhere (after the addition, for the last one of
    `"bn_after_addition"`).
    """

    def __init__(
        self,
        filters: int,
        strides: int,
        *,
        order: str,
        shortcut: str | None,
        dilation: int,
        first_dilation: int | None,
        se_ratio: float | None,
        se_divisor: int,
        se_after_activation: bool,
        dropout_rate: float,
        drop_path_rate: float,
        drop_path_mode: str,
        activation: Any,
        conv_bias: str,
        zero_init_residual: bool,
        kernel_initializer: Any,
        bn_momentum: float,
        bn_epsilon: float,
        bn_synchronized: bool,
        seed: int | None,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_initializer=kernel_initializer,
            bn_momentum=bn_momentum,
            bn_epsilon=bn_epsilon,
            bn_synchronized=bn_synchronized,
            data_format=data_format,
            **kwargs,
        )
        check_integer("filters", filters)
        check_integer("strides", strides)
        check_choice("order", order, ORDERS)
        check_choice("shortcut", shortcut, (*SHORTCUTS, None))
        check_integer("dilation", dilation)
        if first_dilation is not None:
            check_integer("first_dilation", first_dilation)
        if se_ratio is not None:
            check_fraction("se_ratio", se_ratio)
        check_integer("se_divisor", se_divisor)
        check_flag("se_after_activation", se_after_activation)
        check_rate("dropout_rate", dropout_rate)
        check_rate("drop_path_rate", drop_path_rate)
        check_choice("drop_path_mode", drop_path_mode, DROP_PATH_MODES)
        check_choice("conv_bias", conv_bias, CONV_BIAS)
        if shortcut is None and drop_path_rate:
            raise ValueError(
                "`drop_path_rate` must be 0 where shortcut=None: without a shortcut nothing is "
                f"left of a dropped branch. Received: drop_path_rate={drop_path_rate}"
            )
        if drop_path_rate and drop_path_mode == "batch" and bn_synchronized:
            raise ValueError(
                "`bn_synchronized` must be False with drop_path_mode='batch': replicas that skip a "
                "branch would leave the others waiting for their statistics. "
                "Received: bn_synchronized=True"
            )
        self.filters = filters
        self.strides = strides
        self.order = order
        self.dilation = dilation
        self.first_dilation = dilation if first_dilation is None else first_dilation
        self.se_ratio = se_ratio
        self.se_divisor = se_divisor
        self.se_after_activation = se_after_activation
        self.dropout_rate = dropout_rate
        self.drop_path_rate = drop_path_rate
        self.drop_path_mode = drop_path_mode
        self.activation = keras.activations.get(activation)
        self.conv_bias = conv_bias
        self.zero_init_residual = zero_init_residual
        self.seed = seed
        self._shortcut_kind = shortcut

    def _assemble(self, convolutions: list[Conv]) -> None:
        """Creates the sublayers."""
        self._plan = convolutions
        last = len(convolutions)
        # A unit must be able to pass the zero on (no shortcut, nothing passes) and to leave it
        # again (a ReLU after the batch norm has no gradient there).
        zero_last_gamma = (
            self.zero_init_residual
            and self._shortcut_kind is not None
            and self.order in ("original", "relu_only_preactivation")
            and not self._activates_before_se
        )
        for number, conv in enumerate(convolutions, start=1):
            unnormalized = self.order == "full_preactivation" and number == last
            convolution = self._convolution(
                f"conv{number}",
                conv.filters,
                conv.kernel_size,
                conv.strides,
                groups=conv.groups,
                dilation=conv.dilation,
                use_bias=self.conv_bias == "all"
                or (self.conv_bias == "unnormalized" and unnormalized),
            )
            zero_gamma = zero_last_gamma and number == last
            setattr(self, f"conv{number}", convolution)
            setattr(self, f"bn{number}", self._batch_norm(f"bn{number}", zero_gamma=zero_gamma))

        self.se = self.dropout = self.drop_path = self.shortcut = None
        policy = self.dtype_policy
        if self.se_ratio is not None:
            self.se = SqueezeExcite(
                self.se_ratio,
                self.se_divisor,
                kernel_initializer=self.kernel_initializer.clone(),
                data_format=self.data_format,
                dtype=policy,
                name="se",
            )
        if self.dropout_rate:
            self.dropout = Dropout(self.dropout_rate, seed=self.seed, dtype=policy, name="dropout")
        if self.drop_path_rate:
            self.drop_path = StochasticDepth(
                self.drop_path_rate,
                self.drop_path_mode,
                seed=self.seed,
                dtype=policy,
                name="drop_path",
            )
        if self._shortcut_kind is not None:
            self.shortcut = Shortcut(
                convolutions[-1].filters,
                self.strides,
                kind=self._shortcut_kind,
                normalize=self.order != "full_preactivation",
                dilation=self.dilation,
                conv_bias=self.conv_bias,
                kernel_initializer=self.kernel_initializer.clone(),
                bn_momentum=self.bn_momentum,
                bn_epsilon=self.bn_epsilon,
                bn_synchronized=self.bn_synchronized,
                data_format=self.data_format,
                dtype=policy,
                name="shortcut",
            )

    def get_config(self) -> dict[str, Any]:
        # The attribute `shortcut` holds the sublayer, for the variables' paths.
        return {**super().get_config(), "shortcut": self._shortcut_kind}

    @property
    def _shares_preactivation(self) -> bool:
        """Whether the pre-activated input goes into the shortcut as well as into the branch.

        He et al., 2016, appendix: it does where the shortcut changes the number of channels. An
        identity must carry the input as it is.
        """
        return self.order in PREACTIVATION and self._shortcut_kind not in ("identity", None)

    def sublayer_shapes(self, input_shape: Shape) -> Iterator[tuple[keras.Layer, Shape]]:
        shape = input_shape
        for number in range(1, len(self._plan) + 1):
            conv, bn = getattr(self, f"conv{number}"), getattr(self, f"bn{number}")
            if self.order == "full_preactivation":
                yield bn, shape
            yield conv, shape
            shape = conv.compute_output_shape(shape)
            if self.order != "full_preactivation":
                yield bn, shape
        for layer in (self.se, self.dropout, self.drop_path):
            if layer is not None:
                yield layer, shape
        if self.shortcut is not None:
            yield self.shortcut, input_shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for number in range(1, len(self._plan) + 1):
            shape = getattr(self, f"conv{number}").compute_output_shape(shape)
        return shape

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = self._preactivation(inputs, training) if self._shares_preactivation else inputs
        return self._add_paths(x, x, training)

    def call_paths(self, to_shortcut: Any, to_branch: Any, training: bool | None = None) -> Any:
        """What `call` computes, with an input of its own for each of the two paths.

        With the same tensor for both it is `call`, apart from a shared pre-activation, which is
        computed twice. The gradients of the two arguments are the parts of the gradient of the
        input that come through the shortcut and through the branch
        (`keras_resnet.analysis.gradient_flow`). Without a shortcut, `to_shortcut` goes nowhere.
        """
        if self._shares_preactivation:
            to_shortcut = self._preactivation(to_shortcut, training)
            to_branch = self._preactivation(to_branch, training)
        return self._add_paths(to_shortcut, to_branch, training)

    def _add_paths(self, to_shortcut: Any, to_branch: Any, training: bool | None) -> Any:
        if self.shortcut is None:
            return self._after_addition(self._residual_branch(to_branch, training), training)
        shortcut = self.shortcut(to_shortcut, training=training)
        if self.drop_path is None:
            x = shortcut + self._residual_branch(to_branch, training)
        else:
            x = self.drop_path.add(
                shortcut,
                lambda: self._residual_branch(to_branch, training),
                self._branch_state(),
                training=training,
            )
        return self._after_addition(x, training)

    def _branch_state(self) -> list[keras.Variable]:
        """Every variable that `_residual_branch` assigns to."""
        state = []
        for number in range(1, len(self._plan) + 1):
            if self.order == "full_preactivation":
                in_branch = number > 1 or not self._shares_preactivation
            else:
                in_branch = self._normalizes_in_branch(number)
            if in_branch:
                bn = getattr(self, f"bn{number}")
                state += [bn.moving_mean, bn.moving_variance]
        if self.dropout is not None:
            state.append(self.dropout.seed_generator.state)
        return state

    def _preactivation(self, x: Any, training: bool | None) -> Any:
        if self.order == "full_preactivation":
            x = self.bn1(x, training=training)
        return self.activation(x)

    def _residual_branch(self, x: Any, training: bool | None) -> Any:
        """F(x): everything that the shortcut goes around.

        Where the shortcut shares the pre-activation, `x` has it already.
        """
        last = len(self._plan)
        for number in range(1, last + 1):
            conv, bn = getattr(self, f"conv{number}"), getattr(self, f"bn{number}")
            if number == 1 and self.order in PREACTIVATION:
                x = x if self._shares_preactivation else self._preactivation(x, training)
            elif number > 1:
                x = bn(x, training=training) if self.order == "full_preactivation" else x
                x = self.activation(x)
            if number == last and self.dropout is not None:
                x = self.dropout(x, training=training)
            x = conv(x)
            if self._normalizes_in_branch(number):
                x = bn(x, training=training)
        if self.order == "relu_before_addition" or self._activates_before_se:
            x = self.activation(x)
        return x if self.se is None else self.se(x)

    @property
    def _activates_before_se(self) -> bool:
        return self.se_after_activation and self.se_ratio is not None

    def _normalizes_in_branch(self, number: int) -> bool:
        """Whether batch norm `number` comes right after its convolution."""
        if self.order == "full_preactivation":
            return False
        return not (self.order == "bn_after_addition" and number == len(self._plan))

    def _after_addition(self, x: Any, training: bool | None) -> Any:
        if self.order == "bn_after_addition":
            x = getattr(self, f"bn{len(self._plan)}")(x, training=training)
        if self.order in ("original", "bn_after_addition"):
            x = self.activation(x)
        return x
