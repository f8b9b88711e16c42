"""What is measured of the gradient flow beside a training, and what TensorBoard gets of it."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard import context as tensorboard_context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
)

import keras_resnet
from keras_resnet.analysis import BlockGradient, GradientFlow, gradient_flow
from pipeline.components.trainer import Parameters
from pipeline.orchestration.artifact import Context
from pipeline.records import manifest
from pipeline.training import figures, session, telemetry
from pipeline.training.insight import Insight, parts
from pipeline.training.preprocessing import Preprocessing
from tests.pipeline.training import data, job
from tests.pipeline.training.test_telemetry import pictures, progress, read, values

_IMAGES = tf.constant(np.random.default_rng(0).normal(size=(6, 8, 8, 3)), tf.float32)
_TARGETS = tf.one_hot([0, 1, 2, 0, 1, 2], 3)


def network(**arguments):
    return keras_resnet.create(
        "cifar_resnet20",
        depths=(1, 1),
        widths=(4, 6),
        stem_width=4,
        input_shape=(8, 8, 3),
        classes=3,
        classifier_activation=None,
        zero_init_residual=False,
        **arguments,
    )


def insight(model, every=10, step=0, say=print):
    losses = tf.nn.softmax_cross_entropy_with_logits
    return Insight(model, losses, lambda step: (_IMAGES, _TARGETS), every, step, say)


def test_it_is_measured_whenever_so_many_steps_have_gone_by():
    model = network()
    looking = insight(model, every=10, step=7)
    due = [step for step in (8, 9, 10, 12, 19, 35, 39, 40, 41) if looking.after(step)]
    assert due == [10, 35, 40]
    model.get_layer("stem").conv1.kernel.assign_add(tf.ones((3, 3, 3, 4)))
    found = looking.after(50)  # of the weights as they are now
    losses = keras.losses.CategoricalCrossentropy(from_logits=True)
    expected = gradient_flow(model, _IMAGES, _TARGETS, losses)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.stages == pytest.approx(expected.stages, rel=1e-3)
    for one, other in zip(found.blocks, expected.blocks, strict=True):
        assert one.shortcut_share == pytest.approx(other.shortcut_share, rel=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_nothing_vanishes(policy):
    model = network(dtype=policy)
    kernel = model.get_layer("classifier").kernel
    kernel.assign(kernel * 1e-4)  # so that float16 alone would lose the gradients behind it
    flow = insight(model).after(10)
    for block in flow.blocks:
        assert block.branch > 0
        assert 0 < block.shortcut_share < 1


def test_want_of_memory_ends_the_looking_and_not_the_training(monkeypatch):
    said = []
    looking = insight(network(), say=said.append)

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(looking, "_measure", full)
    assert [looking.after(step) for step in (10, 20, 30)] == [None] * 3
    (line,) = said
    assert "not enough memory" in line


@pytest.mark.parametrize(
    ("batch_size", "replicas", "left"),
    [
        (128, 1, 32),
        (128, 2, 32),
        (256, 8, 32),
        (1000, 1, 40),
        (16, 2, 8),
        (37, 1, 37),
        (210, 1, 42),
        (64, 64, 1),
    ],
)
def test_a_part_of_a_batch_is_measured_that_is_enough(batch_size, replicas, left):
    number = parts(batch_size, replicas)
    assert number % replicas == 0
    assert batch_size / number == left


def flow_of(*shares, stages=("stage1", "stage1", "stage2")):
    blocks = [
        BlockGradient(f"{stage}_block{n}", stage, 10.0**-n, share, 1 - share, 0.0)
        for n, (stage, share) in enumerate(zip(stages, shares, strict=True))
    ]
    return GradientFlow(1.0, {}, dict.fromkeys(("stem", *stages, "classifier"), 0.5), tuple(blocks))


def test_the_picture_shows_shares_norms_and_stages():
    figure = figures.gradient_flow(flow_of(1.0, 0.25, math.nan))
    shares, norms = figure.axes
    shortcut, branch = shares.containers
    assert [bar.get_height() for bar in shortcut] == [1.0, 0.25, 0.0]
    assert [bar.get_height() for bar in branch] == [0.0, 0.75, 0.0]
    assert branch[1].get_y() == 0.25
    assert [*norms.lines[0].get_ydata()] == [1.0, 0.1, 0.01]
    assert [label.get_text() for label in norms.get_xticklabels()] == ["stage1", "stage2"]
    assert figures.pixels(figure).shape[2] == 3
    many = flow_of(*[0.5] * 300, stages=["stage1"] * 300)
    assert max(figures.pixels(figures.gradient_flow(many)).shape) <= 1200


def logs(directory, step=0, looking=None):
    return telemetry.Logs(
        directory, ("a", "b", "c"), step, step, lambda step: None, 100, None, looking
    )


class Fixed:
    """An insight that sees the same each time."""

    def __init__(self, flow):
        self.flow = flow

    def after(self, step):
        return self.flow


def test_tensorboard_gets_stages_as_numbers_and_blocks_as_a_picture(tmp_path):
    written = logs(tmp_path, looking=Fixed(flow_of(1.0, 0.5, 0.25)))
    written.training(progress(4))
    found = read(tmp_path / "train")
    assert {name for name in found.Tags()["tensors"] if "/" in name} == {
        *(f"gradient_norm/{stage}" for stage in ("stem", "stage1", "stage2", "classifier")),
        *(f"shortcut_share/{stage}" for stage in ("stage1", "stage2")),
    }
    assert values(found, "shortcut_share/stage1") == {4: 0.75}
    assert values(found, "gradient_norm/stem") == {4: 0.5}
    assert [*pictures(found, "gradient_flow")] == [4]
    written.close()
    # A network of other layers has no blocks, and more of them than a page takes.
    other = GradientFlow(1.0, {}, {f"layer{n}": 1.0 for n in range(99)}, ())
    written = logs(tmp_path / "other", looking=Fixed(other))
    written.training(progress(4))
    written.close()
    names = read(tmp_path / "other" / "train").Tags()["tensors"]
    assert not [name for name in names if "/" in name or "gradient" in name]


def sessions(directory):
    """What the plugin's own code knows: the experiment and the groups of sessions."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(directory))
    backend = backend_context.Context(
        base_plugin.TBContext(data_provider=provider, logdir=str(directory))
    )
    asked = tensorboard_context.RequestContext()
    request = api_pb2.GetExperimentRequest(include_metrics=True)
    experiment = get_experiment.Handler(
        asked,
        backend,
        "",
        request,
    ).run()
    columns = [
        api_pb2.ColParams(metric=info.name, include_in_result=True)
        for info in experiment.metric_infos
    ] + [
        api_pb2.ColParams(hparam=info.name, include_in_result=True)
        for info in experiment.hparam_infos
    ]
    request = api_pb2.ListSessionGroupsRequest(
        col_params=columns,
        include_metrics=True,
        start_index=0,
        slice_size=100,
        allowed_statuses=[
            api_pb2.STATUS_UNKNOWN,
            api_pb2.STATUS_RUNNING,
            api_pb2.STATUS_SUCCESS,
            api_pb2.STATUS_FAILURE,
        ],
    )
    groups = list_session_groups.Handler(asked, backend, "", request).run()
    return experiment, list(groups.session_groups)


def test_the_plugin_for_hyperparameters_has_one_session_per_run_however_often_it_was_killed(
    tmp_path,
):
    settings = {"model": "cifar_resnet20", "epochs": 3, "momentum": 0.9, "random_flip": True}
    nested = settings | {"mean": None, "size": (8, 8), "model_arguments": {"depths": [1, 1]}}
    for run, rate in (("one", 0.1), ("two", 0.2)):
        for step in (0, 5, 9):  # killed twice, the first time before it wrote any checkpoint
            written = logs(tmp_path / run, step)
            written.begin(9, {}, None, nested | {"learning_rate": rate})
            written.training(progress(step + 1))
        _, groups = sessions(tmp_path)
        assert groups[-1].sessions[0].status == api_pb2.STATUS_UNKNOWN  # it goes on
        written.finish({"eval_accuracy": rate * 4}, 9)
        written.close()
    experiment, groups = sessions(tmp_path)
    expected = settings | {"size": "[8, 8]", "model_arguments.depths": "[1, 1]"}
    assert {info.name for info in experiment.hparam_infos} == {*expected, "learning_rate"}
    assert [info.name for info in experiment.hparam_infos if info.differs] == ["learning_rate"]
    assert len(groups) == 2
    for group in groups:
        (only,) = group.sessions
        assert only.status == api_pb2.STATUS_SUCCESS
        assert only.name in ("one", "two")
        hparams = group.hparams
        assert hparams["model"].string_value == "cifar_resnet20"
        assert hparams["epochs"].number_value == 3
        assert hparams["random_flip"].bool_value is True
        rate = hparams["learning_rate"].number_value
        found = {(value.name.group, value.name.tag): value for value in group.metric_values}
        assert found["", "final/eval_accuracy"].value == pytest.approx(rate * 4)
        assert found["train", "loss"].training_step == 10


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("data"), train=40, eval=8).uri


def train(examples, folder, **changes):
    """Trains a few steps; returns the weights, and where the logs are."""
    chosen = Parameters(**job.PARAMETERS | {"epochs": 2} | changes)
    expected = Preprocessing(height=8, width=8, mean=chosen.mean, std=chosen.std)
    (folder / "results").mkdir(parents=True)
    context = Context("insight", state=folder / "state")
    contents = manifest.load(examples)
    done = session.train(examples, contents, chosen, expected, folder / "results", context)
    return done.model.get_weights(), folder / "results" / "tensorboard"


@pytest.mark.slow
def test_the_weights_of_two_replicas_are_the_same_to_the_last_bit_with_and_without(
    examples, tmp_path
):
    blind, logs_ = train(examples, tmp_path / "blind", insight_every=0)
    assert not [name for name in read(logs_ / "train").Tags()["tensors"] if "gradient" in name]
    seeing, logs_ = train(examples, tmp_path / "seeing", insight_every=4)
    for one, other in zip(blind, seeing, strict=True):
        np.testing.assert_array_equal(one, other)
    found = read(logs_ / "train")
    rounds = [*values(found, "loss")]
    steps = [*values(found, "gradient_norm/stage1")]
    assert len(steps) == rounds[-1] // 4
    assert [*pictures(found, "gradient_flow")] == steps
    norms = [
        value
        for name in found.Tags()["tensors"]
        if name.startswith("gradient_norm/")
        for value in values(found, name).values()
    ]
    assert np.isfinite(norms).all() and min(norms) > 0
    shares = np.array([*values(found, "shortcut_share/stage1").values()])
    assert ((shares > 0) & (shares <= 1)).all()
    _, groups = sessions(logs_.parent)
    (only,) = groups[0].sessions
    assert only.status == api_pb2.STATUS_SUCCESS
    assert groups[0].hparams["insight_every"].number_value == 4
    metrics = {(value.name.group, value.name.tag): value.value for value in groups[0].metric_values}
    assert metrics["", "final/eval_accuracy"] == metrics["eval", "accuracy"]
