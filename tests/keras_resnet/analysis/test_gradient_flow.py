"""Gradient flow, against derivations by hand, the backend's own gradients, and invariants."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_resnet
from keras_resnet import ResNetConfig, _backend
from keras_resnet.analysis import GradientProbe, gradient_flow
from keras_resnet.layers import BottleneckBlock, ResidualBlock

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TINY = {
    "depths": (1, 1),
    "widths": (4, 6),
    "block": "basic",
    "stem": "cifar",
    "stem_width": 4,
    "stem_pool": None,
    "image_size": 8,
    "default_classes": 3,
    "zero_init_residual": False,
}
ORDERS = (
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preactivation",
    "full_preactivation",
)
BLOCKS = (
    (ResidualBlock, {"filters": 4}),
    (ResidualBlock, {"filters": 4, "strides": 2, "shortcut": "projection", "se_ratio": 0.5}),
    (BottleneckBlock, {"filters": 2, "shortcut": "avg_pool", "drop_path_rate": 0.4}),
    (ResidualBlock, {"filters": 6, "shortcut": "zero_pad", "dropout_rate": 0.3}),
    (ResidualBlock, {"filters": 4, "drop_path_rate": 0.4, "drop_path_mode": "batch"}),
    (ResidualBlock, {"filters": 5, "shortcut": None}),
)
COMBINATIONS = [(order, *block) for order in ORDERS for block in BLOCKS]
JAX = keras.config.backend() == "jax"
if JAX:  # which takes seconds to compile each
    COMBINATIONS = COMBINATIONS[::11]
once = pytest.mark.skipif(JAX, reason="nothing in it depends on the backend, and JAX compiles long")
IMAGES = np.random.default_rng(1).normal(size=(6, 8, 8, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 2])


def tiny(**changes):
    return keras_resnet.ResNet(ResNetConfig(**{**TINY, **changes}), seed=5)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def values(model):
    return [numpy(variable) for variable in model.variables]


def test_a_network_whose_gradients_are_derived_by_hand():
    """Two blocks on images of one pixel, of which a 3×3 convolution sees only its middle."""
    random = np.random.default_rng(7)
    inputs = keras.Input((1, 1, 3))
    first = ResidualBlock(3, name="stage1_block1")
    second = ResidualBlock(5, shortcut="projection", name="stage2_block1")
    features = second(first(inputs))
    outputs = keras.layers.Dense(2, name="head")(keras.layers.Flatten()(features))
    model = keras.Model(inputs, outputs)
    model.set_weights([random.uniform(0.2, 1.5, weight.shape) for weight in model.get_weights()])
    for weight in model.weights:
        if weight.path.endswith(("kernel", "beta")):
            weight.assign(random.normal(size=weight.shape))
    by_path = {weight.path: numpy(weight).astype(float) for weight in model.weights}

    def scale_and_shift(name):
        gamma, beta, mean, variance = (
            by_path[f"{name}/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + 1e-5)
        return scale, beta - mean * scale

    x = random.normal(size=(16, 3))
    labels = np.arange(16) % 2

    def kernel(name):
        full = by_path[f"{name}/kernel"]
        return full[full.shape[0] // 2, full.shape[1] // 2]

    kept = []
    h = x
    for name in ("stage1_block1", "stage2_block1"):
        (s1, t1), (s2, t2) = scale_and_shift(f"{name}/bn1"), scale_and_shift(f"{name}/bn2")
        to_hidden, to_sum = kernel(f"{name}/conv1") * s1, kernel(f"{name}/conv2") * s2
        carried, shift = np.eye(3), 0.0
        if name == "stage2_block1":
            scale, shift = scale_and_shift(f"{name}/shortcut/bn")
            carried = kernel(f"{name}/shortcut/conv") * scale
        hidden = h @ to_hidden + t1
        total = h @ carried + shift + np.maximum(hidden, 0) @ to_sum + t2
        kept.append((to_hidden, hidden, to_sum, carried, total))
        h = np.maximum(total, 0)
    logits = h @ by_path["head/kernel"] + by_path["head/bias"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    at_logits = (shares - np.eye(2)[labels]) / len(labels)
    g = at_logits @ by_path["head/kernel"].T
    expected = []
    for to_hidden, hidden, to_sum, carried, total in reversed(kept):
        g = g * (total > 0)
        shortcut, branch = g @ carried.T, (g @ to_sum.T * (hidden > 0)) @ to_hidden.T
        g = shortcut + branch
        expected.insert(0, (shortcut, branch))

    flow = gradient_flow(model, x[:, None, None, :], labels, LOGITS, training=False)
    assert [block.name for block in flow.blocks] == ["stage1_block1", "stage2_block1"]
    for block, (shortcut, branch) in zip(flow.blocks, expected, strict=True):
        a, b = np.linalg.norm(shortcut), np.linalg.norm(branch)
        assert min(a, b) > 1e-3
        found = (block.shortcut, block.branch, block.norm, block.cosine, block.shortcut_share)
        derived = (a, b, np.linalg.norm(shortcut + branch), (shortcut * branch).sum() / (a * b))
        np.testing.assert_allclose(found, (*derived, a / (a + b)), rtol=1e-4)
        assert block.branch_share == pytest.approx(b / (a + b), rel=1e-4)
    losses = -np.log(shares[np.arange(16), labels])
    assert flow.loss == pytest.approx(losses.mean(), rel=1e-5)
    at_kernel, at_bias = h.T @ at_logits, at_logits.sum(axis=0)
    assert flow.variables["head/kernel"] == pytest.approx(np.linalg.norm(at_kernel), rel=1e-4)
    both = np.hypot(np.linalg.norm(at_kernel), np.linalg.norm(at_bias))
    assert flow.stages["head"] == pytest.approx(both, rel=1e-4)
    assert list(flow.stages) == ["stage1", "stage2", "head"]


@pytest.mark.parametrize(("order", "kind", "arguments"), COMBINATIONS)
def test_the_parts_add_up_to_the_gradient_of_every_kind_of_block(order, kind, arguments):
    block = kind(**arguments, order=order, zero_init_residual=False, seed=4)
    x = np.random.default_rng(2).normal(size=(3, 4, 4, 4)).astype("float32")
    block.build(x.shape)
    weights = np.random.default_rng(3).normal(size=block.compute_output_shape(x.shape))

    def energy(call):
        return lambda *inputs: ops.sum(call(*inputs, training=True) * weights)

    _, _, (whole,) = _backend.gradients(energy(block), [], [x])
    _, _, parts = _backend.gradients(energy(block.call_paths), [], [x, x])
    if block.shortcut is None:
        assert parts[0] is None or not numpy(parts[0]).any()
        parts = parts[1:]
    total = sum(numpy(part) for part in parts if part is not None)  # None for a dropped branch
    np.testing.assert_allclose(total, numpy(whole), atol=1e-4 * np.abs(numpy(whole)).max())


@pytest.mark.parametrize(
    "changes",
    [
        {"order": "full_preactivation", "se_ratio": 0.5},
        {"block": "bottleneck", "drop_path_rate": 0.4, "block_dropout_rate": 0.2},
    ],
    ids=["preactivation", "bottleneck"],
)
def test_the_norm_at_a_block_is_that_of_the_backends_own_gradient(changes):
    model = tiny(**changes)
    flow = gradient_flow(model, IMAGES, LABELS)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()
    blocks = [layer for layer in model.layers if layer.name.startswith("stage")]
    assert [block.name for block in flow.blocks] == [block.name for block in blocks]
    block = blocks[1]
    before = keras.Model(model.input, block.input)
    after = keras.Model(block.input, model.output)
    with keras.StatelessScope():
        x = before(IMAGES, training=True)

    def loss(x):
        return cross_entropy(LABELS, after(x, training=True))

    value, _, (gradient,) = _backend.gradients(loss, [], [x])
    found = flow.blocks[1]
    assert flow.loss == pytest.approx(float(value), rel=1e-5)
    assert found.norm == pytest.approx(float(np.linalg.norm(numpy(gradient))), rel=1e-3)
    product = found.shortcut * found.branch * found.cosine
    assert found.norm**2 == pytest.approx(
        found.shortcut**2 + found.branch**2 + 2 * product, rel=1e-4
    )


def test_the_norms_of_variables_are_those_of_the_backends_own_gradient_and_stages_sum_them_up():
    model = tiny(widths=(4, 4), depths=(1, 1))
    flow = gradient_flow(model, IMAGES, LABELS)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()
    _, of_variables, _ = _backend.gradients(
        lambda: cross_entropy(LABELS, model(IMAGES, training=True)), model.trainable_variables
    )
    norms = {
        variable.path: float(np.linalg.norm(numpy(gradient)))
        for variable, gradient in zip(model.trainable_variables, of_variables, strict=True)
    }
    assert flow.variables.keys() == norms.keys()
    for path, norm in norms.items():
        assert flow.variables[path] == pytest.approx(norm, rel=1e-3, abs=1e-6), path
    assert list(flow.stages)[:3] == ["stem", "stage1", "stage2"]
    squares = sum(norm**2 for norm in flow.stages.values())
    assert squares == pytest.approx(sum(norm**2 for norm in norms.values()), rel=1e-3)
    for name, norm in flow.stages.items():
        inside = [norms[path] ** 2 for path in norms if path.startswith(name)]
        assert norm == pytest.approx(math.sqrt(sum(inside)), rel=1e-3)


@once
def test_an_identity_carries_the_gradient_of_the_next_block_unchanged():
    """He et al., 2016, equation 5: dL/dx_l = dL/dx_{l+1} + what the branch adds."""
    flow = gradient_flow(tiny(depths=(3,), widths=(4,), order="full_preactivation"), IMAGES, LABELS)
    for block, following in zip(flow.blocks, flow.blocks[1:], strict=False):
        assert block.shortcut == pytest.approx(following.norm, rel=1e-4)
        assert 0 < block.shortcut_share < 1
        assert block.branch_share == pytest.approx(1 - block.shortcut_share)


def test_all_goes_through_the_shortcut_of_branches_of_weight_zero_and_none_where_there_is_none():
    model = tiny(zero_init_residual=True)
    assert {block.shortcut_share for block in gradient_flow(model, IMAGES, LABELS).blocks} == {1}
    plain = gradient_flow(tiny(shortcut=None), IMAGES, LABELS)
    for block in plain.blocks:
        assert block.shortcut_share == 0
        assert block.branch == block.norm > 0
        assert math.isnan(block.cosine)
    model.get_layer("classifier").kernel.assign(np.zeros((6, 3)))
    nothing = gradient_flow(model, IMAGES, LABELS).blocks[0]
    assert nothing.norm == 0
    assert math.isnan(nothing.shortcut_share)


def test_nothing_is_changed_and_a_probe_sees_the_weights_of_the_day():
    model = tiny(depths=(2,), widths=(4,), drop_path_rate=0.5, block_dropout_rate=0.2)
    before = values(model)
    probe = GradientProbe(model)
    first = probe(IMAGES, LABELS)
    assert probe(IMAGES, LABELS) == first  # the same draws again
    for one, other in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(one, other)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(variable.value * 1.25)
    second = probe(IMAGES, LABELS)
    assert second.loss != first.loss
    again = gradient_flow(model, IMAGES, LABELS)
    assert second.loss == pytest.approx(again.loss, rel=1e-5)
    for one, other in zip(second.blocks, again.blocks, strict=True):
        assert (one.norm, one.shortcut) == pytest.approx((other.norm, other.shortcut), rel=1e-3)


@once
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_shows_what_float32_does(policy):
    config = ResNetConfig(**TINY)
    exact = keras_resnet.ResNet(config)
    half = keras_resnet.ResNet(config, dtype=policy)
    half.set_weights(exact.get_weights())
    scale = 2.0**10 if policy == "mixed_float16" else 1.0
    expected = gradient_flow(exact, IMAGES, LABELS, training=False)
    found = gradient_flow(half, IMAGES, LABELS, training=False, loss_scale=scale)
    assert found.loss == pytest.approx(expected.loss, rel=0.02)
    for one, other in zip(found.blocks, expected.blocks, strict=True):
        assert one.norm == pytest.approx(other.norm, rel=0.1)
        assert one.shortcut_share == pytest.approx(other.shortcut_share, abs=0.05)


@once
def test_blocks_are_found_in_models_within_models():
    backbone = tiny(depths=(1,), widths=(4,), order="full_preactivation")
    expected = gradient_flow(backbone, IMAGES, LABELS)
    inputs = keras.Input((8, 8, 3))
    within = keras.Model(inputs, keras.layers.Identity()(backbone(inputs)))
    sequential = keras.Sequential([keras.Input((8, 8, 3)), backbone])
    for model in (within, sequential):
        found = gradient_flow(model, IMAGES, LABELS)
        assert found.blocks[0].norm == pytest.approx(expected.blocks[0].norm, rel=1e-4)
        assert found.blocks[0].shortcut_share == pytest.approx(
            expected.blocks[0].shortcut_share, rel=1e-4
        )
        assert found.stages == pytest.approx(expected.stages, rel=1e-4)


class Subclassed(keras.Model):
    """A model whose graph nobody knows."""

    def __init__(self):
        super().__init__(name="mine")
        self.block = ResidualBlock(3)
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(3, activation="softmax", name="dense")

    def call(self, images, training=None):
        return self.dense(self.flatten(self.block(images, training=training)))


@once
def test_of_a_model_without_a_graph_the_variables_are_known():
    model = Subclassed()
    model(IMAGES)
    flow = gradient_flow(model, IMAGES, LABELS)
    assert flow.blocks == ()
    assert len(flow.variables) == len(model.trainable_variables)
    assert flow.stages["dense"] > 0


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(TypeError, match="must be a Keras model"):
        gradient_flow("resnet50", IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"must be built.*Subclassed"):
        gradient_flow(Subclassed(), IMAGES, LABELS)
    inputs = keras.Input((8, 8, 3))
    block = ResidualBlock(3)(inputs)
    with pytest.raises(ValueError, match=r"must have one output.* 2 outputs"):
        gradient_flow(keras.Model(inputs, [block, inputs]), IMAGES, LABELS)
