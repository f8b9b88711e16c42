"""The residual blocks: their orders, shortcuts and dilations, against the formulas written out."""

import numpy as np
import pytest
from keras import ops

from keras_resnet import _backend
from keras_resnet.layers import BottleneckBlock, ResidualBlock, Shortcut, Stem
from keras_resnet.layers._unit import ORDERS

BLOCKS = pytest.mark.parametrize(("block", "filters"), [(ResidualBlock, 8), (BottleneckBlock, 2)])


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def randomise(layer):
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1]))
        if "variance" in variable.path:
            variable.assign(ops.abs(variable))


@BLOCKS
def test_original_block_with_zero_residual_weights_is_relu_of_its_input(block, filters):
    x = images(2, 5, 7, 8)
    y = block(filters)(x)  # zero_init_residual: the last gamma is zero
    np.testing.assert_array_equal(numpy(y), np.maximum(x, 0))


@BLOCKS
@pytest.mark.parametrize("order", ["relu_only_preactivation", "full_preactivation"])
def test_preactivation_block_with_zero_kernels_is_the_identity(block, filters, order):
    x = images(2, 5, 7, 8)
    y = block(filters, order=order, kernel_initializer="zeros")(x)
    np.testing.assert_array_equal(numpy(y), x)


def written_out(block, x):
    """He et al., 2016, figure 4, for a block of two convolutions with an identity."""
    relu, conv1, conv2, bn1, bn2 = ops.relu, block.conv1, block.conv2, block.bn1, block.bn2
    return {
        "original": lambda: relu(x + bn2(conv2(relu(bn1(conv1(x)))))),
        "bn_after_addition": lambda: relu(bn2(x + conv2(relu(bn1(conv1(x)))))),
        "relu_before_addition": lambda: x + relu(bn2(conv2(relu(bn1(conv1(x)))))),
        "relu_only_preactivation": lambda: x + bn2(conv2(relu(bn1(conv1(relu(x)))))),
        "full_preactivation": lambda: x + conv2(relu(bn2(conv1(relu(bn1(x)))))),
    }[block.order]()


@pytest.mark.parametrize("order", ORDERS)
def test_order_is_the_one_of_the_paper(order):
    x = ops.convert_to_tensor(images(2, 5, 7, 8))
    block = ResidualBlock(8, order=order)
    block(x)
    randomise(block)
    np.testing.assert_allclose(numpy(block(x)), numpy(written_out(block, x)), rtol=1e-6)


@pytest.mark.parametrize("order", ["relu_only_preactivation", "full_preactivation"])
def test_a_projection_shares_the_preactivation(order):
    x = ops.convert_to_tensor(images(2, 6, 8, 8))
    block = ResidualBlock(12, 2, order=order, shortcut="projection")
    block(x)
    randomise(block)
    shared = ops.relu(block.bn1(x) if order == "full_preactivation" else x)
    branch = block.conv1(shared)
    if order == "full_preactivation":
        branch = block.conv2(ops.relu(block.bn2(branch)))
        assert block.shortcut.bn is None
    else:
        branch = block.bn2(block.conv2(ops.relu(block.bn1(branch))))
    expected = block.shortcut(shared) + branch
    np.testing.assert_allclose(numpy(block(x)), numpy(expected), rtol=1e-6)


@pytest.mark.parametrize("stride_on", ["1x1", "3x3"])
def test_stride_of_a_bottleneck(stride_on):
    block = BottleneckBlock(4, 2, stride_on=stride_on, shortcut="projection")
    block.build((None, 8, 8, 8))
    strides = [conv.strides[0] for conv in (block.conv1, block.conv2, block.conv3)]
    assert strides == ([2, 1, 1] if stride_on == "1x1" else [1, 2, 1])


def test_dropout_is_between_the_convolutions():
    """Zagoruyko and Komodakis, 2016, section 3.3: it acts on what enters the last convolution."""
    x = images(2, 6, 6, 4)
    block = ResidualBlock(4, order="full_preactivation", dropout_rate=0.5, seed=0)
    block(x)
    kernel = np.zeros(block.conv2.kernel.shape, "float32")
    kernel[1, 1] = np.eye(4)  # the last convolution passes on what it gets
    block.conv2.kernel.assign(kernel)
    branch = numpy(block(x, training=True)) - x
    inside = numpy(
        ops.relu(block.bn2(block.conv1(ops.relu(block.bn1(x, training=True))), training=True))
    )
    kept = branch != 0
    assert 0.1 < kept.mean() < 0.9
    np.testing.assert_allclose(branch[kept], 2 * inside[kept], rtol=1e-4, atol=1e-5)


def test_the_last_gamma_starts_at_zero_only_where_that_can_be_left_again():
    for order in ORDERS:
        block = ResidualBlock(8, order=order)
        block.build((None, 4, 4, 8))
        zero = not np.any(numpy(block.bn2.gamma))
        assert zero == (order in ("original", "relu_only_preactivation")), order
    for options in ({"zero_init_residual": False}, {"shortcut": None}):
        block = ResidualBlock(8, **options)
        block.build((None, 4, 4, 8))
        assert np.all(numpy(block.bn2.gamma) == 1)


def test_default_initialisation_is_he_over_the_fan_out():
    block = ResidualBlock(128)
    block.build((None, 4, 4, 128))
    kernel = numpy(block.conv1.kernel)
    assert abs(kernel.std() / np.sqrt(2 / (9 * 128)) - 1) < 0.02
    assert np.abs(kernel).max() > 3.5 * kernel.std()  # not truncated
    assert not np.array_equal(kernel, numpy(block.conv2.kernel))


def test_identity_refuses_another_number_of_channels():
    with pytest.raises(ValueError, match=r"`kind`.*8 channels.*filters=16.*kind='identity'"):
        ResidualBlock(16)(np.zeros((1, 4, 4, 8), "float32"))


def test_option_a_subsamples_and_adds_zero_channels():
    x = images(1, 5, 4, 3)
    expected = np.concatenate([x[:, ::2, ::2], np.zeros((1, 3, 2, 2), "float32")], axis=-1)
    np.testing.assert_array_equal(numpy(Shortcut(5, 2, kind="zero_pad")(x)), expected)


def test_averages_do_not_count_what_is_outside_the_image():
    shortcut = Shortcut(1, 2, kind="avg_pool", normalize=False, kernel_initializer="ones")
    x = np.arange(1, 10, dtype="float32").reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(numpy(shortcut(x))[0, :, :, 0], [[3, 4.5], [7.5, 9]])


def test_dilated_averages_count_a_margin_of_zeros():
    shortcut = Shortcut(1, kind="avg_pool", dilation=2, normalize=False, kernel_initializer="ones")
    x = np.arange(1, 5, dtype="float32").reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(numpy(shortcut(x))[0, :, :, 0], [[2.5, 1.5], [1.75, 1]])


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("pool", ["max", "max_ceil", "max_zero"])
def test_stem_pools_of_negative_features(pool, size):
    """With an identity for a convolution, at even and odd sizes, against the windows by hand."""
    stem = Stem(1, kind="cifar", pool=pool, order="full_preactivation")
    x = -1 - np.abs(images(1, size, size, 1))
    stem(x)
    kernel = np.zeros((3, 3, 1, 1), "float32")
    kernel[1, 1] = 1
    stem.conv1.kernel.assign(kernel)
    received = numpy(stem(x))[0, :, :, 0]
    before = 0 if pool == "max_ceil" else 1
    outside = 0.0 if pool == "max_zero" else -np.inf
    padded = np.pad(x[0, :, :, 0], (before, 3), constant_values=outside)
    if pool == "max_zero":  # only one pixel of zeros belongs to the image
        padded[size + 2 :], padded[:, size + 2 :] = -np.inf, -np.inf
    count = size // 2 if pool == "max_ceil" else -(-size // 2)
    expected = [
        [padded[2 * row : 2 * row + 3, 2 * col : 2 * col + 3].max() for col in range(count)]
        for row in range(count)
    ]
    np.testing.assert_array_equal(received, expected)


def test_the_gradient_of_a_deep_unit_reaches_a_shallow_one_unchanged():
    """He et al., 2016, equation 5: dE/dx_l = dE/dx_L (1 + d/dx_l sum of F).

    The second term is measured with the residual branches alone, so that the difference has to be
    the gradient at the deep unit, element for element.
    """
    blocks = [ResidualBlock(4, order="full_preactivation", name=f"unit{i}") for i in range(5)]
    x = ops.convert_to_tensor(images(2, 5, 5, 4))
    for block in blocks:
        block.build((None, 5, 5, 4))
    weight = ops.convert_to_tensor(images(2, 5, 5, 4, seed=1))

    def deep(shallow):
        for block in blocks:
            shallow = block(shallow, training=False)
        return shallow

    def energy(deep_output):
        return ops.sum(weight * ops.square(deep_output))

    def energy_of_branches(shallow):
        """The energy to first order, as it depends on the sum of the residual branches."""
        return ops.sum(at_deep * (deep(shallow) - shallow))

    _, _, (at_shallow,) = _backend.gradients(lambda x: energy(deep(x)), [], [x])
    _, _, (at_deep,) = _backend.gradients(energy, [], [deep(x)])
    at_deep = ops.convert_to_tensor(numpy(at_deep))
    _, _, (through_branches,) = _backend.gradients(energy_of_branches, [], [x])
    identity_term = numpy(at_shallow) - numpy(through_branches)
    np.testing.assert_allclose(
        identity_term, numpy(at_deep), atol=1e-5 * np.abs(numpy(at_shallow)).max()
    )

    # With the branches switched off, nothing is left but the identity term: bit for bit.
    for block in blocks:
        block.conv2.kernel.assign(np.zeros(block.conv2.kernel.shape))
    _, _, (alone,) = _backend.gradients(lambda x: ops.sum(at_deep * deep(x)), [], [x])
    np.testing.assert_array_equal(numpy(alone), numpy(at_deep))


BAD_ARGUMENTS = [
    (ResidualBlock, {"filters": 0}, r"`filters` must be an integer of at least 1.*filters=0"),
    (ResidualBlock, {"filters": 8, "drop_path_rate": 1}, r"`drop_path_rate` must be.*\[0, 1\)"),
    (ResidualBlock, {"filters": 8, "order": "v2"}, r"`order` must be one of.*order='v2'"),
    (
        ResidualBlock,
        {"filters": 8, "shortcut": "B"},
        r"`shortcut` must be one of 'identity'.*shortcut='B'",
    ),
    (
        ResidualBlock,
        {"filters": 8, "shortcut": None, "drop_path_rate": 0.5},
        r"`drop_path_rate` must be 0 where shortcut=None",
    ),
    (BottleneckBlock, {"filters": 8, "base_width": 4}, r"`base_width` must be at least.*=4"),
    (Shortcut, {"filters": 8, "strides": 0}, r"`strides` must be.*strides=0"),
    (Stem, {"filters": 8, "pool": "avg"}, r"`pool` must be one of 'max'.*pool='avg'"),
    (Stem, {"filters": 8, "kind": 3}, r"`kind` must be one of 'imagenet'.*kind=3"),
    (Stem, {"filters": 4, "kind": "deep_tiered"}, r"`filters` must be.*at least 8.*filters=4"),
    (Stem, {"filters": 8, "bn_epsilon": 0}, r"`bn_epsilon` must be a number above 0.*=0"),
    (Stem, {"filters": 8, "data_format": "NCHW"}, r"`data_format` must be one of.*'NCHW'"),
]


@pytest.mark.parametrize(("layer", "arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(**arguments)
