import json
import math
import re
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.recipes import Recipe
from pipeline.components.trainer import Parameters
from pipeline.errors import DataError, PipelineError
from pipeline.orchestration.artifact import Context
from pipeline.records import manifest
from pipeline.training import health, inputs, session, shortage
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.health import Watch
from pipeline.training.loop import Loop
from pipeline.training.preprocessing import Preprocessing
from pipeline.training.reports import Progress
from tests.pipeline.training import data

_TINY = {
    "model": "cifar_resnet20",
    "model_arguments": {"depths": [1, 1, 1], "widths": [4, 4, 4], "stem_width": 4},
    "image_size": (8, 8),
    "precision": "float32",
    "strategy": "one_device",
    "batch_size": 8,
    "epochs": 3,
    "learning_rate": 0.05,
    "steps_per_loop": 3,
    "checkpoint_steps": 6,
    "checkpoint_seconds": 0.0,
}
_EXPECTED = Preprocessing(height=8, width=8, mean=(100.0,) * 3, std=(60.0,) * 3)
_STEPS = 27


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("examples"), train=72, eval=9).uri


def train(folder, examples, progress=lambda *_, **__: None, **changes):
    """Returns what was trained, and what was said."""
    said = []
    context = Context("tiny", say=said.append, state=folder / "state", progress=progress)
    parameters = Parameters(**_TINY | changes)
    results = folder / "results"
    results.mkdir(exist_ok=True)
    contents = manifest.load(examples)
    return session.train(examples, contents, parameters, _EXPECTED, results, context), said


@pytest.fixture
def spoil(monkeypatch):
    """Spoils steps so long as a function of their number says so."""
    plan = inputs._plan

    def install(is_bad):
        def spoiled(rows, places, step, weights=None):
            rows, weights, steps, places = plan(rows, places, step, weights)
            return rows, weights * (math.nan if is_bad(step + 1) else 1), steps, places

        monkeypatch.setattr(inputs, "_plan", spoiled)

    return install


def rounds(losses, norms=None, before=0, **fields):
    losses = np.array(losses, np.float32)
    norms = np.ones_like(losses) if norms is None else np.array(norms, np.float32)
    step = before + len(losses)
    return Progress(step, 0.0, 0.0, 0.1, 1.0, losses=losses, gradient_norms=norms, **fields)


def test_the_first_step_that_is_no_number_is_found():
    watch = Watch(10, 3.0, 5)
    assert watch.judge(rounds([2.3, 2.2])) is None
    trouble = watch.judge(rounds([2.1, math.nan, math.nan], before=2))
    assert (trouble.what, trouble.where) == ("the loss is nan", "step 4")
    trouble = Watch(10, 3.0, 5).judge(rounds([2.3, 2.2, math.nan], [1, math.inf, math.nan]))
    assert (trouble.what, trouble.where) == ("the norm of the gradient is inf", "step 2")


def test_what_float16_skips_is_no_trouble_until_the_scale_is_below_1():
    watch = Watch(10, 3.0, 5)
    skipped = rounds([2.3, math.nan], [1, math.inf], loss_scale=2.0**14)
    assert watch.judge(skipped) is None
    trouble = watch.judge(rounds([math.nan] * 2, [math.inf] * 2, before=2, loss_scale=0.5))
    assert trouble.what == "the loss scale of float16 fell to 0.5, below 1"
    assert trouble.where == "steps 3 to 4"


def test_a_loss_explodes_when_it_stays_above_what_guessing_gives():
    watch = Watch(10, 3.0, 5)
    high = 3.01 * math.log(10)
    assert watch.judge(rounds([2.0, *[high] * 4, 1.0, *[high] * 4])) is None
    assert not watch.calm
    trouble = watch.judge(rounds([high], before=10))
    assert trouble.where == "steps 7 to 11"
    assert trouble.what == "the loss stays above 6.91, 3 times what guessing gives"
    free = Watch(10, None, 5)
    assert free.judge(rounds([2.0, *[high] * 40])) is None


def test_sigmoids_guess_with_the_logarithm_of_2():
    """The mean over 1,000 classes explodes far below the logarithm of their number."""
    losses = [0.7, *[3 * math.log(2) + 0.1] * 5]
    assert Watch(1000, 3.0, 5).judge(rounds(losses)) is None
    assert Watch(1000, 3.0, 5, sigmoids=True).judge(rounds(losses)).where == "steps 2 to 6"


def test_who_trains_in_half_precision_is_told_of_float32():
    said = health.given_up(health.Trouble("the loss is nan", 3, 3), 0, 0.1, ["a"], "mixed_float16")
    assert said.endswith("set trainer.clip_norm or train in float32")


def test_no_explosion_in_what_healthy_trainings_do():
    """A bad initialisation, a warm-up that overshoots, and odd batches when the loss is small."""
    bad_start = [60.0, *[150.0] * 50, 20.0]
    assert Watch(10, 3.0, 20).judge(rounds(bad_start)) is None
    generator = np.random.default_rng(0)
    steps = np.arange(400)
    warm_up = 2.3 + 12 * np.exp(-((steps - 12) ** 2) / 40)
    late = np.exp(-steps / 30) + generator.exponential(0.02, 400) * (1 + 200 * (steps % 37 == 0))
    for losses in (warm_up, late):
        assert Watch(10, 3.0, 20).judge(rounds(losses)) is None


def test_what_is_watched_goes_on_where_it_was():
    losses = [2.0, *[9.0] * 7]
    whole, first, second = (Watch(10, 3.0, 6) for _ in range(3))
    assert first.judge(rounds(losses[:5])) is None
    second.state = json.loads(json.dumps(first.state))
    assert second.judge(rounds(losses[5:], before=5)) == whole.judge(rounds(losses))


def test_a_step_that_is_spoiled_once_is_done_again_with_a_smaller_learning_rate(
    tmp_path, examples, spoil
):
    journal = tmp_path / "state/checkpoints/rollbacks.json"
    spoil(lambda step: step == 17 and not journal.exists())
    trained, said = train(tmp_path, examples)
    assert np.isfinite(trained.figures["loss"])
    assert all(np.isfinite(weight).all() for weight in trained.model.get_weights())
    (told,) = [line for line in said if "going back" in line]
    assert told.startswith("the loss is nan in step 17: going back to step 12 with 0.5 times")
    settings = json.loads((tmp_path / "results/settings.json").read_text())
    (rollback,) = settings["rollbacks"]
    assert (rollback["first"], rollback["to"], len(rollback["images"])) == (17, 12, 8)
    assert rollback["images"] == json.loads(journal.read_text())[0]["images"]
    latest = checkpoints(tmp_path).latest()
    assert latest.step == _STEPS
    assert latest.tensors["learning_rate/scale"] == 0.5


def checkpoints(folder):
    directory = folder / "state/checkpoints"
    (record, *_) = sorted(directory.glob("step-*/checkpoint.json"))
    return Checkpoints(directory, json.loads(record.read_text())["fingerprint"], 2)


@pytest.mark.parametrize("rollbacks", [0, 2])
def test_it_stops_and_names_step_and_images_when_nothing_helps(
    tmp_path, examples, spoil, rollbacks
):
    spoil(lambda step: step == 8)
    with pytest.raises(FloatingPointError) as raised:
        train(tmp_path, examples, rollbacks=rollbacks)
    message = str(raised.value)
    rate = 0.05 / 2**rollbacks
    assert message.startswith(f"the loss is nan in step 8, at a learning rate of {rate:.3g};")
    tried = {0: "no rollback is allowed", 2: "2 rollbacks did not help"}[rollbacks]
    assert f"; {tried}; the images of step 8 were " in message
    files = {f"{number}.png" for number in range(72)}
    named = message.split("were ")[1].split(";")[0].split(", ")
    assert len(named) == 8 and set(named) <= files
    assert message.endswith("; look at them, lower trainer.learning_rate or set trainer.clip_norm")
    latest = checkpoints(tmp_path).latest()
    assert latest.step == 6
    assert health.not_finite(latest.tensors) is None


def test_in_the_first_steps_it_goes_back_to_the_beginning(tmp_path, examples, spoil):
    journal = tmp_path / "state/checkpoints/rollbacks.json"
    spoil(lambda step: step == 2 and not journal.exists())
    _, said = train(tmp_path, examples, epochs=1)
    assert any("in step 2: going back to step 0" in line for line in said)


def test_a_loss_that_explodes_rolls_back_past_its_beginning(tmp_path, examples, monkeypatch):
    """Checkpoints that fall into an explosion are none to go back to."""
    judge = Watch.judge

    def seen(self, progress):
        if self._exploding:
            progress.losses[progress.step - len(progress.losses) + np.arange(3) >= 9] = 50.0
        trouble = judge(self, progress)
        self._exploding = self._exploding and not trouble
        return trouble

    monkeypatch.setattr(Watch, "_exploding", True, raising=False)
    monkeypatch.setattr(Watch, "judge", seen)
    _, said = train(tmp_path, examples, explosion_steps=7, steps_per_loop=3, epochs=4)
    (told,) = [line for line in said if "going back" in line]
    assert "3 times what guessing gives in steps 10 to 16: going back to step 6" in told


def test_a_checkpoint_that_is_not_finite_is_never_written(tmp_path, examples, monkeypatch):
    original = Loop.variables.fget
    spoiled = []

    def variables(self):
        found = original(self)
        if not spoiled and int(self._optimizer.iterations.numpy()) == 12:
            spoiled.append(True)
            found["model/0003"].assign(np.full(found["model/0003"].shape, np.inf))
        return found

    monkeypatch.setattr(Loop, "variables", property(variables))
    _, said = train(tmp_path, examples)
    (told,) = [line for line in said if "going back" in line]
    assert " holds what is no finite number in step 12: going back to step 6" in told


def test_an_exhausted_memory_says_what_to_lower(tmp_path, examples, monkeypatch):
    def exhausted(*_):
        message = "Graph execution error:\n\nDetected at\nOOM when allocating tensor\nmore"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(Loop, "_train", exhausted)
    with pytest.raises(PipelineError) as raised:
        train(tmp_path, examples, accumulate_steps=2)
    assert raised.value.exit_code == 1
    assert str(raised.value) == (
        "out of memory with 4 images of 8 by 8 pixels at once on each of 1 replica, "
        "trainer.precision float32 (OOM when allocating tensor); set trainer.accumulate_steps to "
        "4, which computes the same step with 2 at once; lower trainer.batch_size; lower trainer.image_size; set trainer.precision to mixed_bfloat16; "
        "lower trainer.cache_mb, which is 2,048"
    )


@pytest.mark.parametrize(
    ("replicas", "changes", "parts"),
    [
        (1, {"batch_size": 90}, 2),
        (1, {"batch_size": 45}, 3),
        (2, {"batch_size": 90}, 3),
        (1, {"batch_size": 36, "accumulate_steps": 4}, 9),
        (1, {"batch_size": 12, "mixup": 0.2}, 2),
        (1, {"batch_size": 12, "mixup": 0.2, "accumulate_steps": 2}, 6),
        (1, {"batch_size": 2, "mixup": 0.2}, None),
        (1, {"batch_size": 1}, None),
    ],
)
def test_what_is_advised_can_be_done(replicas, changes, parts):
    recipe = Recipe(**changes)
    with (
        pytest.raises(PipelineError) as raised,
        shortage.explained(Parameters(), recipe, replicas),
    ):
        raise MemoryError
    found = re.search(r"accumulate_steps to (\d+), .* step with (\d+) at once", str(raised.value))
    if parts is None:
        assert not found
    else:
        images = recipe.batch_size // replicas // parts
        assert [int(number) for number in found.groups()] == [parts, images]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB where the checkpoints go."""
    directory = tmp_path / "state/checkpoints"
    directory.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("freed", [True, False])
def test_a_full_disk_never_harms_the_last_good_checkpoint(tmp_path, examples, small_disk, freed):
    filler = small_disk / "filler"
    found = []

    def progress(done, total, **_):
        if done == 9:
            with pytest.raises(OSError), filler.open("wb", 0) as file:
                while True:
                    file.write(bytes(1024))
        if done == 15:
            found.append(checkpoints(tmp_path).latest().step)
        if done == 15 and freed:
            filler.unlink()

    if freed:
        _, said = train(tmp_path, examples, progress)
    else:
        with pytest.raises(PipelineError, match=r"no space for a checkpoint of .* is intact"):
            train(tmp_path, examples, progress)
    latest = checkpoints(tmp_path).latest()
    assert health.not_finite(latest.tensors) is None
    if freed:
        (warning,) = [line for line in said if line.startswith("warning")]
        assert "no space for a checkpoint of" in warning
        assert warning.endswith("the training goes on meanwhile")
        assert latest.step == _STEPS
    else:
        assert latest.step == 6
    assert found == [6]


def test_a_damaged_list_of_rollbacks_is_refused(tmp_path):
    (tmp_path / "rollbacks.json").write_text('[{"what": 3}]')
    with pytest.raises(DataError, match="is no list of rollbacks"):
        health.History(tmp_path / "rollbacks.json", writes=True)
