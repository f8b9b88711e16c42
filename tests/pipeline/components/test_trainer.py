import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.components import trainer
from pipeline.components.trainer import Parameters
from pipeline.errors import DataError, UsageError
from pipeline.orchestration.artifact import Context
from pipeline.records import manifest, protos
from pipeline.serving.predictor import Predictor
from pipeline.training import optimization
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.loop import Loop
from pipeline.training.preprocessing import Preprocessing, preprocess
from tests.pipeline import builders
from tests.pipeline.training import data

_TINY = {
    "model": "cifar_resnet20",
    "model_arguments": {"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4},
    "image_size": (8, 8),
    "mean": (100.0,) * 3,
    "std": (60.0,) * 3,
    "precision": "float32",
    "strategy": "one_device",
    "batch_size": 16,
    "epochs": 3,
    "learning_rate": 0.05,
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("examples"), train=60, eval=21, test=9)


def run(folder, examples, inputs=(), state=None, **changes):
    """Runs Trainer and returns its outcome, its outputs and what it said."""
    outputs = {key: builders.artifact(folder / key) for key in trainer.OUTPUTS}
    said = []
    context = Context("tiny", say=said.append, state=state)
    outcome = trainer.run(
        {"examples": examples, **dict(inputs)}, outputs, Parameters(**_TINY | changes), context
    )
    return outcome, outputs, said


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    return run(tmp_path_factory.mktemp("trained"), examples)


def test_a_class_without_a_usable_training_image_is_named_before_anything_is_trained(tmp_path):
    images = [data.example(n) for n in (0, 1, 3, 4)]
    written = data.write(tmp_path / "examples", 1, images, train=4)
    outputs = {key: builders.artifact(tmp_path / key) for key in trainer.OUTPUTS}
    with pytest.raises(DataError, match=r"no usable image of emu; .*quarantine.jsonl says which"):
        trainer.run({"examples": written}, outputs, Parameters(**_TINY), builders.CONTEXT)
    assert not any(list(output.uri.iterdir()) for output in outputs.values())


def test_it_writes_what_is_served_and_what_keras_loads(trained, examples):
    outcome, outputs, _ = trained
    model = outputs["model"].uri
    held_out = manifest.examples_of(examples.uri, manifest.load(examples.uri), "test")
    answers = Predictor(model / "Format-Serving")([example.encoded for example in held_out])
    network = keras.models.load_model(model / "Format-Keras" / "model.keras")
    assert outputs["model"].properties["parameters"] == network.count_params()
    assert outputs["model"].properties["preprocessing"]["mean"] == (100.0,) * 3
    expected = Preprocessing(**outputs["model"].properties["preprocessing"])
    images = preprocess(tf.constant([example.encoded for example in held_out]), expected)
    np.testing.assert_allclose(answers.probabilities, network(images), atol=1e-6)
    figures = outputs["model_run"].properties
    assert set(figures) == {"loss", "accuracy", "eval_loss", "eval_accuracy", "input_wait"}
    assert f"eval accuracy {figures['eval_accuracy']:.2%} after 3 epochs" in outcome.result
    assert outcome.refusal is None


def test_the_figures_are_those_of_the_exported_model(trained, examples):
    _, outputs, _ = trained
    held_out = manifest.examples_of(examples.uri, manifest.load(examples.uri), "eval")
    answers = Predictor(outputs["model"].uri / "Format-Serving")([e.encoded for e in held_out])
    own = answers.probabilities[np.arange(21), [e.label for e in held_out]]
    figures = outputs["model_run"].properties
    assert figures["eval_loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
    hits = [best[0] == e.text for best, e in zip(answers.classes, held_out, strict=True)]
    assert figures["eval_accuracy"] == pytest.approx(np.mean(hits))


def test_the_effective_settings_are_said_and_kept(trained):
    _, outputs, said = trained
    settings = json.loads((outputs["model_run"].uri / "settings.json").read_text())
    assert said[0] == "OneDeviceStrategy with 1 replica, float32, batch 16, 12 steps"
    assert settings["precision"] == {"policy": "float32", "reason": "as configured"}
    assert settings["xla"] == {"on": False, "reason": "no GPU"}
    assert settings["deterministic"] is True
    assert settings["batch_per_replica"] == 16
    assert settings["steps_per_epoch"] == 4
    assert settings["input"]["train"].startswith("decoded in memory")
    assert settings["versions"]["keras"] == keras.__version__
    assert said[3] == "  begins with random weights"
    assert keras.__version__ in said[5]
    assert said[6].startswith("  recipe default (what the pipeline trains with")
    assert settings["recipe"]["learning_rate"] == 0.05
    assert settings["rollbacks"] == []


def test_tensorboard_logs_are_kept(trained):
    _, outputs, _ = trained
    for split in ("train", "eval"):
        assert list((outputs["model_run"].uri / "tensorboard" / split).glob("events.*"))


def test_without_an_eval_split_nothing_is_measured_and_best_means_last(tmp_path):
    written = data.write(tmp_path / "examples", train=24, test=9)
    outcome, outputs, _ = run(tmp_path, written, export="best", epochs=1)
    assert "1 epochs; nothing was measured while training" in outcome.result
    assert set(outputs["model_run"].properties) == {"loss", "accuracy", "input_wait"}


@pytest.mark.parametrize(("ema_decay", "kind"), [(0.0, "model"), (0.9, "ema")])
def test_best_is_the_epoch_with_the_best_accuracy(tmp_path, examples, monkeypatch, ema_decay, kind):
    accuracies = iter([0.3, 0.8, 0.5, 0.8])
    evaluate = Loop.evaluate
    monkeypatch.setattr(
        Loop,
        "evaluate",
        lambda *arguments: dataclasses.replace(evaluate(*arguments), accuracy=next(accuracies)),
    )
    outcome, outputs, _ = run(
        tmp_path,
        examples,
        state=tmp_path / "state",
        export="best",
        epochs=4,
        ema_decay=ema_decay,
        keep_last=1,
    )
    assert outcome.result.endswith("eval accuracy 80.00% after epoch 2 of 4, the best")
    assert outputs["model_run"].properties["eval_accuracy"] == 0.8
    directory = tmp_path / "state" / "checkpoints"
    assert sorted(path.name for path in directory.iterdir()) == ["step-00000008", "step-00000016"]
    fingerprint = json.loads((directory / "step-00000008/checkpoint.json").read_text())
    saved = Checkpoints(directory, fingerprint["fingerprint"], 1).load(8).tensors
    model = keras.models.load_model(outputs["model"].uri / "Format-Keras" / "model.keras")
    wanted = [saved[name] for name in sorted(saved) if name.startswith(kind)]
    for found, value in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_mean_and_deviation_come_from_the_statistics_where_none_are_given(
    tmp_path, examples, monkeypatch
):
    statistics = builders.artifact(tmp_path / "statistics")
    monkeypatch.setattr(
        protos, "channel_moments", lambda artifact: ((90.0, 91.0, 92.0), (50.0, 0.0, 52.0))
    )
    changes = {"mean": None, "std": None, "epochs": 1}
    _, outputs, _ = run(tmp_path / "both", examples, {"statistics": statistics}, **changes)
    found = outputs["model"].properties["preprocessing"]
    assert found["mean"] == (90.0, 91.0, 92.0)
    assert found["std"] == (50.0, 1.0, 52.0)  # nothing is divided by 0


def test_records_that_do_not_match_their_manifest_are_refused_before_anything(tmp_path):
    written = data.write(tmp_path / "examples", train=24, eval=6)
    shard = sorted((written.uri / "Split-eval").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=shard.name):
        run(tmp_path, written)


def test_a_state_of_another_training_is_refused(tmp_path, examples):
    run(tmp_path / "one", examples, state=tmp_path / "state", epochs=1)
    with pytest.raises(DataError, match="belongs to a training on other data or with other"):
        run(tmp_path / "two", examples, state=tmp_path / "state", epochs=1, learning_rate=0.01)


def test_a_finished_training_is_exported_again_without_a_step(tmp_path, examples):
    """It was killed between its last checkpoint and its end."""
    found = [run(tmp_path / name, examples, state=tmp_path / "state") for name in ("one", "two")]
    assert "going on after step 12 of 12" in found[1][2]
    weights = [
        keras.models.load_model(outputs["model"].uri / "Format-Keras/model.keras").get_weights()
        for _, outputs, _ in found
    ]
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
    first, second = (dict(outputs["model_run"].properties) for _, outputs, _ in found)
    del first["input_wait"]
    assert first == second


def test_class_weights_and_balanced_sampling_help_the_rare_class(tmp_path):
    """A class with 3 of 48 examples: its recall, and how often it comes."""
    images = [data.example(3 * n + (n % 2)) for n in range(45)]
    images += [data.example(3 * n + 2) for n in range(3)]
    written = data.write(tmp_path / "examples", 1, images, train=48)
    labels = np.array([image.label for image in images])
    weights = optimization.class_weights("balanced", labels)
    np.testing.assert_allclose(weights * np.bincount(labels), [16, 16, 16])
    assert optimization.class_weights("none", labels) is None
    for changes in ({"class_weights": "balanced"}, {"sampling": "balanced"}):
        outcome, _, _ = run(tmp_path / next(iter(changes)), written, epochs=1, **changes)
        assert "parameters" in outcome.result


def test_a_network_of_the_users_own_is_trained_and_served(tmp_path, examples, monkeypatch):
    (tmp_path / "their_network.py").write_text(
        "import keras\n\n"
        "def build(input_shape, classes):\n"
        "    images = keras.Input(input_shape)\n"
        "    features = keras.layers.Conv2D(8, 3, activation='relu')(images)\n"
        "    features = keras.layers.BatchNormalization()(features)\n"
        "    pooled = keras.layers.GlobalAveragePooling2D()(features)\n"
        "    return keras.Model(images, keras.layers.Dense(classes)(pooled))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        outcome, outputs, _ = run(
            tmp_path,
            examples,
            model="their_network:build",
            model_arguments={},
            epochs=12,
            learning_rate=0.3,
        )
    finally:
        sys.modules.pop("their_network", None)
    assert outcome.result.startswith("their_network:build, 283 parameters, eval accuracy")
    assert outputs["model_run"].properties["eval_accuracy"] > 0.5
    held_out = manifest.examples_of(examples.uri, manifest.load(examples.uri), "eval")
    answers = Predictor(outputs["model"].uri / "Format-Serving")([e.encoded for e in held_out])
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"random_crop": (0.9, 0.2)},
        {"random_crop": (0.0, 0.5)},
        {"random_shift": 9},
        {"ema_decay": 1.0},
        {"model_arguments": {"dtype": "float16"}},
        {"keep_last": 0},
    ],
)
def test_parameters_that_contradict_themselves_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        Parameters(**_TINY | changes)


@pytest.mark.slow
def test_a_batch_that_the_replicas_cannot_share_is_refused(tmp_path, examples, two_replicas):
    with pytest.raises(UsageError, match=r"batch_size 15: cannot be shared out .* 2 replicas"):
        run(tmp_path, examples, strategy="mirrored", batch_size=15)


@pytest.mark.slow
def test_xla_is_refused_where_it_cannot_be(tmp_path, examples, two_replicas):
    with pytest.raises(UsageError, match=r"trainer\.xla true: on CPUs XLA cannot synchronise"):
        run(tmp_path, examples, strategy="mirrored", xla=True)


@pytest.mark.slow
def test_every_option_together_on_two_replicas(tmp_path, examples, two_replicas):
    outcome, outputs, said = run(
        tmp_path,
        examples,
        strategy="mirrored",
        precision="auto",
        bn_synchronized=False,
        ema_decay=0.9,
        label_smoothing=0.1,
        class_weights="balanced",
        sampling="balanced",
        random_crop=(0.5, 1.0),
        random_shift=1,
        random_flip=True,
        cache_mb=0,
        deterministic=False,
        epochs=2,
    )
    assert "eval accuracy" in outcome.result
    settings = json.loads((outputs["model_run"].uri / "settings.json").read_text())
    assert settings["devices"] == ["CPU:0", "CPU:1"]
    assert settings["input"] == {
        "train": "cut out and decoded each time",
        "eval": "decoded each time (0 MiB would not fit)",
    }
    assert "over each replica's own part, moving statistics averaged" in said[1]


def test_parameters_are_described():
    described = Parameters.__doc__
    for field in dataclasses.fields(Parameters):
        assert f"        {field.name}: " in described
