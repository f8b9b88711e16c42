import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import LesionProbe, count, prune_blocks, without_blocks

IMAGES = np.random.default_rng(0).normal(size=(24, 8, 8, 3)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 10, 24)


def network(depths=(2, 3, 2), seed=0, **fields):
    """A network whose batch norms are those of one that was trained: nothing is 0 or 1."""
    fields = {"depths": depths, "widths": (4, 8, 8), "stem_width": 4, **fields}
    if fields.get("block") == "bottleneck":
        fields["stem_width"] = 16
    keras.utils.set_random_seed(seed)
    model = keras_resnet.create("cifar_resnet20", input_shape=(8, 8, 3), **fields)
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "beta", "moving_mean", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


def predict(model, images=IMAGES):
    return keras.ops.convert_to_numpy(model(images, training=False))


def cross_entropies(outputs):
    """With Keras' least probability."""
    return -np.log(np.maximum(outputs[np.arange(24), LABELS], 1e-7))


@pytest.fixture(scope="module")
def model():
    return network()


def test_a_block_that_is_left_out_is_one_whose_branch_is_zero(model):
    """ReLU(x + 0) is x behind another ReLU."""
    other = network()
    bn = other.get_layer("stage2_block3").bn2
    bn.gamma.assign(np.zeros(8))
    bn.beta.assign(np.zeros(8))
    smaller = without_blocks(model, ["stage2_block3"])
    np.testing.assert_allclose(predict(smaller), predict(other), rtol=1e-5, atol=1e-6)
    score = LesionProbe(model)(IMAGES, LABELS, without=["stage2_block3"])
    outputs = predict(other)
    assert score.accuracy == pytest.approx(np.mean(outputs.argmax(-1) == LABELS))
    losses = cross_entropies(outputs)
    assert score.loss == pytest.approx(float(losses.mean()), rel=1e-4)


def test_only_blocks_that_change_nothing_else_can_be_left_out(model):
    probe = LesionProbe(model)
    # Stages 2 and 3 begin with another size.
    expected = ("stage1_block1", "stage1_block2", "stage2_block2", "stage2_block3", "stage3_block2")
    assert probe.blocks == expected
    with pytest.raises(ValueError, match=r"Received: 'stage2_block1'"):
        probe(IMAGES, LABELS, without=["stage2_block1"])


@pytest.mark.parametrize(
    "fields",
    [
        {"block": "bottleneck", "shortcut": "B", "se_ratio": 0.5},
        {"order": "full_preactivation"},
        {"shortcut": None},
        {"drop_path_rate": 0.5, "drop_path_mode": "batch", "drop_path_schedule": "linear"},
    ],
    ids=str,
)
def test_the_smaller_network_does_what_the_whole_one_does_without_the_blocks(fields):
    whole = network(**fields)
    before = predict(whole)
    pruning = prune_blocks(whole, 4, IMAGES, LABELS)
    assert len(pruning.removed) == 3
    end = pruning.curve[-1]
    outputs = predict(pruning.model)
    losses = cross_entropies(outputs)
    assert end.loss == pytest.approx(float(losses.mean()), rel=1e-3)
    assert end.accuracy == pytest.approx(np.mean(outputs.argmax(-1) == LABELS))
    assert end.macs == count(pruning.model).macs
    assert sum(pruning.model.config.depths) == end.blocks == 4
    np.testing.assert_array_equal(predict(whole), before)


def test_the_blocks_that_matter_least_go_first(model):
    pruning = prune_blocks(model, 3 / 7, IMAGES, LABELS)
    losses = [pruning.scores[name].loss for name in pruning.removed]
    assert losses == sorted(losses)
    assert len(pruning.removed) == 4
    assert pruning.model.config.depths == (1, 1, 1)
    assert [point.blocks for point in pruning.curve] == [7, 6, 5, 4, 3]
    assert [point.removed for point in pruning.curve] == [None, *pruning.removed]
    macs = [point.macs for point in pruning.curve]
    assert macs == sorted(macs, reverse=True)
    assert macs[0] == count(model).macs


def test_a_branch_without_effect_goes_first_and_costs_nothing():
    whole = network(seed=3)
    for gamma in (
        whole.get_layer("stage1_block2").bn2.gamma,
        whole.get_layer("stage1_block2").bn2.beta,
    ):
        gamma.assign(np.zeros(4))
    pruning = prune_blocks(whole, 6, IMAGES, LABELS)
    whole_point, smaller_point = pruning.curve
    assert whole_point.loss == pytest.approx(pruning.scores["stage1_block2"].loss, rel=1e-6)
    if pruning.removed == ("stage1_block2",):
        assert smaller_point.loss == pytest.approx(whole_point.loss, rel=1e-6)


def test_what_is_left_is_an_ordinary_model(model, tmp_path):
    smaller = prune_blocks(model, 5, IMAGES, LABELS).model
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.models.load_model(tmp_path / "smaller.keras")
    np.testing.assert_allclose(predict(loaded), predict(smaller), rtol=1e-5, atol=1e-6)
    assert loaded.config == smaller.config
    twin = keras_resnet.ResNet(smaller.config, input_shape=(8, 8, 3))
    assert [v.path for v in twin.weights] == [v.path for v in smaller.weights]


def test_with_all_blocks_it_is_a_copy(model):
    pruning = prune_blocks(model, 1.0, IMAGES, LABELS)
    assert pruning.removed == ()
    assert pruning.model is not model
    np.testing.assert_allclose(predict(pruning.model), predict(model), rtol=1e-6)


@pytest.mark.parametrize("keep", [2, 8, 0.1, 1.5, True, "4"])
def test_a_number_of_blocks_that_cannot_be_is_refused(model, keep):
    with pytest.raises(ValueError, match="`keep` must"):
        prune_blocks(model, keep, IMAGES, LABELS)


def test_models_that_are_no_networks_with_a_classifier_are_refused(model):
    headless = keras_resnet.ResNet(
        dataclasses.replace(model.config), include_top=False, input_shape=(8, 8, 3)
    )
    with pytest.raises(ValueError, match="with its classifier"):
        prune_blocks(headless, 5, IMAGES, LABELS)
    with pytest.raises(ValueError, match="0 stems and 0 blocks"):
        prune_blocks(keras.Sequential([keras.Input((4,))]), 1, IMAGES, LABELS)
    with pytest.raises(TypeError, match="must be a network"):
        prune_blocks("resnet50", 1, IMAGES, LABELS)
