"""What TensorBoard's own readers find in the logs of a training."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator

from keras_resnet.recipes import Augmentation
from pipeline.components.trainer import Parameters
from pipeline.orchestration.artifact import Context
from pipeline.records import manifest
from pipeline.training import course, figures, session, telemetry
from pipeline.training.draws import Draws
from pipeline.training.events import Events
from pipeline.training.loop import Evaluation, Progress
from pipeline.training.order import Shuffled
from pipeline.training.preprocessing import Preprocessing
from tests.pipeline.training import data, job

_CLASSES = ("cat", "dog", "emu")
_SCALARS = {"loss", "accuracy", "learning_rate", "images_per_second", "input_wait"}
_BATCH, _STEPS_PER_EPOCH, _EPOCHS = 8, 11, 3


def read(directory):
    """What TensorBoard knows of a directory."""
    found = event_accumulator.EventAccumulator(str(directory), size_guidance={"tensors": 0})
    return found.Reload()


def read_as_plugins_do(directory):
    """What the plugins get where TensorBoard's fast server does not run."""
    kept = dict.fromkeys(("scalars", "images", "text"), 0)
    found = plugin_event_accumulator.EventAccumulator(str(directory), tensor_size_guidance=kept)
    return found.Reload()


def values(found, name):
    """The values of a name by step, of which none may come twice."""
    events = found.Tensors(name)
    steps = [event.step for event in events]
    assert steps == sorted(set(steps))
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in events}


def pictures(found, name):
    """The pictures of a name by step, decoded."""
    decoded = {}
    for step, (width, height, encoded) in values(found, name).items():
        decoded[step] = tf.io.decode_png(encoded).numpy()
        assert decoded[step].shape == (int(height), int(width), 3)
    return decoded


def test_what_is_written_is_what_tensorboard_reads(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 7, 3), np.uint8)
    with tf.Graph().as_default() as graph:
        tf.constant(3.0, name="three")
    events = Events(tmp_path, 0)
    events.scalar("loss", 0.1, 2)
    events.scalar("loss", float("nan"), 4)
    events.image("picture", pixels, 2)
    events.text("note", "**größer**\n\nnext", 3)
    events.graph(graph)
    events.flush()  # what is flushed can be seen before the file is closed
    for reader in (read, read_as_plugins_do):
        found = reader(tmp_path)
        np.testing.assert_equal(values(found, "loss"), {2: np.float32(0.1), 4: np.float32("nan")})
        np.testing.assert_array_equal(pictures(found, "picture")[2], pixels)
        (note,) = values(found, "note")[3]
        assert note.decode() == "**größer**\n\nnext"
        assert [node.name for node in found.Graph().node] == ["three"]
        for name, plugin in (("loss", "scalars"), ("picture", "images"), ("note", "text")):
            assert found.SummaryMetadata(name).plugin_data.plugin_name == plugin
    events.close()


@pytest.mark.parametrize("reader", [read, read_as_plugins_do])
@pytest.mark.parametrize("cut", [0, 3, 30])
def test_steps_that_are_done_again_replace_those_before(tmp_path, reader, cut):
    """A process is killed after step 7, perhaps while it writes; the last checkpoint is of 4."""
    killed = Events(tmp_path, 0)
    for step in range(8):
        killed.scalar("loss", step, step)
    killed.flush()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[: -cut or None])
    again = Events(tmp_path, 4)
    again.scalar("loss", 105, 5)
    again.flush()
    expected = {step: step for step in range(5)} | {5: 105}
    assert values(reader(tmp_path), "loss") == expected
    third = Events(tmp_path, 5)
    third.scalar("loss", 206, 6)
    third.flush()
    assert values(reader(tmp_path), "loss") == expected | {6: 206}
    # And one that was killed before its first checkpoint.
    first = Events(tmp_path, 0)
    first.scalar("loss", 300, 0)
    first.flush()
    assert values(reader(tmp_path), "loss") == {0: 300}


def test_images_lie_beside_each_other_and_small_ones_are_enlarged():
    images = np.random.default_rng(0).integers(0, 255, (5, 40, 50, 3), np.uint8)
    whole = figures.grid(images)
    assert whole.shape == (2 * 80 + 2, 3 * 100 + 2 * 2, 3)  # 3 beside each other, doubled
    for number, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        part = whole[row * 82 : row * 82 + 80, column * 102 : column * 102 + 100]
        np.testing.assert_array_equal(part[::2, ::2], images[number])
        np.testing.assert_array_equal(part[1::2, 1::2], images[number])
    assert (whole[82:, 204:] == 255).all()
    large = np.zeros((1, 200, 100, 3), np.uint8)
    np.testing.assert_array_equal(figures.grid(large), large[0])


def confused(number, seed=0):
    return np.random.default_rng(seed).integers(0, 30, (number, number))


def test_a_confusion_matrix_shows_counts_shares_and_names():
    counts = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 12345]])
    names = ("a", "$x_", "a name that is far too long to be written out")
    figure = figures.confusion(counts, names)
    (axes,) = figure.axes
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "8",
        (1, 0): "2",
        (0, 2): "1",
        (2, 2): "12345",
    }
    shares = [[0.8, 0.2, 0], [0, 0, 0], [1 / 12346, 0, 12345 / 12346]]
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    for axis in (axes.xaxis, axes.yaxis):
        written = [label.get_text() for label in axis.get_ticklabels()]
        assert written == ["a", "$x_", "a name that is far …"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    # In the picture, cells that have nothing are white and the full one is dark.
    pixels = figures.pixels(figure)
    height, width = pixels.shape[:2]
    assert pixels.dtype == np.uint8 and pixels.shape == (height, width, 3)
    box = axes.get_position()
    cell = np.array([box.width * width, box.height * height]) / 3

    def corner(row, column):
        x = box.x0 * width + (column + 0.1) * cell[0]
        y = (1 - box.y1) * height + (row + 0.1) * cell[1]
        return pixels[int(y), int(x)].astype(int)

    assert corner(2, 2).sum() < 300
    assert corner(1, 1).sum() > 700
    assert corner(0, 0).sum() < corner(0, 1).sum() < corner(0, 2).sum()
    # Names are not cut off at the edge.
    assert (pixels[:, 0] == 255).all() and (pixels[0] == 255).all()


@pytest.mark.parametrize(
    ("number", "named", "counted"), [(12, True, True), (13, True, False), (31, False, False)]
)
def test_many_classes_have_no_names_or_counts_in_the_picture(number, named, counted):
    figure = figures.confusion(confused(number), tuple(f"class {n}" for n in range(number)))
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.yaxis.get_ticklabels()]
    assert ("class 1" in labels) is named
    assert bool(axes.texts) is counted
    assert max(figures.pixels(figure).shape) < 1000


def test_the_worst_pairs_are_a_table():
    counts = np.diag([5, 5, 0, 9]) + np.array(
        [[0, 3, 0, 2], [0, 0, 0, 0], [0, 0, 0, 7], [0, 3, 0, 0]]
    )
    table = figures.worst_pairs(counts, ("a", "b|c", "d", "e"), 3)
    assert table.splitlines()[2:] == [
        "| d | e | 7 | 100.0% |",
        "| a | b\\|c | 3 | 30.0% |",
        "| e | b\\|c | 3 | 25.0% |",
    ]
    assert figures.worst_pairs(np.diag([1, 2]), ("a", "b")) == "Nothing is confused."


def progress(step):
    return Progress(step, 1 / step, 0.5, 0.1, 1000.0, input_wait=0.5, seconds=2.0)


def test_many_classes_come_with_a_table_of_the_worst(tmp_path):
    names = tuple(f"class {n}" for n in range(40))
    logs = telemetry.Logs(tmp_path, names, 0, 0, lambda step: None, 100)
    for step in (4, 8):
        logs.evaluation(step, Evaluation(2.0, 0.5, confused(40, seed=step)))
    logs.evaluation(12, Evaluation(2.0, 0.5, None))  # there are too many
    logs.training(progress(4))
    found = read(tmp_path / "eval")
    assert {*pictures(found, "confusion")} == {4, 8}
    assert list(values(found, "accuracy").values()) == [0.5] * 3
    (table,) = values(found, "most_confused")[8]
    assert table.decode() == figures.worst_pairs(confused(40, seed=8), names)
    assert values(read(tmp_path / "train"), "input_wait") == {4: 0.25}
    logs.close()


@pytest.mark.parametrize(
    ("steps", "watched"),
    [
        ((1, 1), [(0, 5)]),
        ((7, 8), [(5, 10)]),
        ((6, 10), [(5, 10)]),
        ((9, 11), [(5, 15)]),
        ((90, 91), []),
    ],
)
def test_the_profiler_watches_the_rounds_of_the_steps(monkeypatch, tmp_path, steps, watched):
    told = []
    now = 0
    monkeypatch.setattr(tf.profiler.experimental, "start", lambda logdir: told.append([now]))
    monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: told[-1].append(now))
    profiler = telemetry.Profiler(tmp_path, steps, 5)
    for now in range(0, 30, 5):
        profiler.after(now)
    profiler.close()
    assert [tuple(pair) for pair in told] == watched
    # A training that goes on behind them has nothing to watch, one that ends inside leaves it.
    told.clear()
    late = telemetry.Profiler(tmp_path, steps, 5)
    now = steps[1]
    late.after(now)
    early = telemetry.Profiler(tmp_path, (1, 99), 5)
    early.after(0)
    early.close()
    assert told == [[now, now]]


def parameters(**changes):
    return Parameters(**job.PARAMETERS | {"epochs": _EPOCHS, "strategy": "one_device"} | changes)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("data"), train=90, eval=21).uri


@pytest.fixture(scope="module")
def trained(examples, tmp_path_factory):
    """The directory of a training's state, and that of its results."""
    folder = tmp_path_factory.mktemp("trained")
    chosen = parameters(random_rotation=0.1, random_zoom=0.2, profile_steps=(20, 21))
    expected = Preprocessing(height=8, width=8, mean=chosen.mean, std=chosen.std)
    (folder / "results").mkdir()
    context = Context("logged", state=folder / "state")
    contents = manifest.load(examples)
    session.train(examples, contents, chosen, expected, folder / "results", context)
    return folder / "state" / course.TENSORBOARD, folder / "results"


@pytest.mark.slow
def test_a_training_logs_every_round_and_every_evaluation(trained):
    logs, results = trained
    found = read(logs / "train")
    rounds = [3, 6, 9, 11, 14, 17, 20, 22, 25, 28, 31, 33]
    assert {*found.Tags()["tensors"]} == _SCALARS | {"settings", "augmented"}
    for name in _SCALARS:
        assert [*values(found, name)] == rounds
    held_out = read(logs / "eval")
    assert {*held_out.Tags()["tensors"]} == {"loss", "accuracy", "confusion"}
    for name in ("loss", "accuracy", "confusion"):
        assert [*values(held_out, name)] == [11, 22, 33]
    (text,) = values(found, "settings")[0]
    settings = json.loads(text.decode().strip("`"))
    kept = json.loads((results / course.SETTINGS).read_text())
    assert kept == {**settings, "rollbacks": []}  # which are known at the end
    assert {file.name for file in (results / "tensorboard" / "train").iterdir()} == {
        file.name for file in (logs / "train").iterdir()
    }


@pytest.mark.slow
def test_samples_are_what_the_network_sees(examples, trained):
    chosen = parameters()
    shown = pictures(read(trained[0] / "train"), "augmented")
    assert [*shown] == [0, 11, 22, 33]
    pixels = np.stack([tf.io.decode_png(data.example(n).encoded) for n in stored(examples)])
    augmentation = Augmentation(chosen.random_shift, chosen.random_flip, 0.1, 0.2)
    call = tf.function(augmentation, jit_compile=True)
    for step in (0, 11):
        rows = Shuffled(90, chosen.seed).rows(step * _BATCH, _BATCH)
        draws = Draws(chosen.seed, tf.constant(step, tf.int64), tf.range(8, dtype=tf.int64), 8)
        expected, _ = call(tf.constant(pixels[rows]), tf.zeros((8, 3)), draws)
        # Three in a row, each pixel twelve times as large.
        found = [
            shown[step][98 * row : 98 * row + 96 : 12, 98 * column : 98 * column + 96 : 12]
            for row, column in (divmod(number, 3) for number in range(_BATCH))
        ]
        np.testing.assert_allclose(np.stack(found), expected, atol=0.51)


def stored(examples):
    """The numbers of the training examples as they are stored, one shard after the other."""
    return [number for shard in range(2) for number in range(90)[shard::2]]


@pytest.mark.slow
def test_the_graph_is_that_of_the_network(trained):
    graph = read(trained[0] / "train").Graph()
    names = [node.name for node in graph.node]
    assert names[0] == "images"
    assert any("stage1_block1" in name and name.endswith("convolution") for name in names)
    assert graph.ByteSize() < 2_000_000  # weights are no part of it


@pytest.mark.slow
def test_the_profile_lies_where_tensorboard_looks_for_it(trained):
    logs, results = trained
    for directory in (logs, results / "tensorboard"):
        (profile,) = (directory / "train" / "plugins" / "profile").glob("*/*.xplane.pb")
        assert profile.stat().st_size > 1000
    assert not (logs / "eval" / "plugins").exists()


def until(process, start, least):
    for line in process.stdout:
        if line.startswith(start) and int(line[len(start) :].split()[0]) >= least:
            return
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_the_logs_of_a_training_that_was_killed_have_every_step_once(examples, trained, tmp_path):
    state = tmp_path / "state"
    changes = {
        "strategy": "one_device",
        "epochs": _EPOCHS,
        "random_rotation": 0.1,
        "random_zoom": 0.2,
    }
    for step in (4, 17, 29):
        process = job.start(tmp_path, examples, state, **changes)
        until(process, "step ", step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    job.finished(job.start(tmp_path, examples, state, **changes))
    assert len(list((state / "tensorboard" / "train").iterdir())) > 1
    for reader in (read, read_as_plugins_do):
        for split in ("train", "eval"):
            found = reader(state / "tensorboard" / split)
            whole = reader(trained[0] / split)
            assert found.Tags()["tensors"] == whole.Tags()["tensors"]
            for name in whole.Tags()["tensors"]:
                once, expected = values(found, name), values(whole, name)
                assert [*once] == [*expected]
                if name in ("loss", "accuracy", "augmented", "confusion"):
                    np.testing.assert_equal(once, expected)


def ask(address, path, **query):
    url = f"{address}data/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


@pytest.mark.slow
@pytest.mark.parametrize("fast", ["true", "false"])
def test_tensorboard_finds_a_training_that_goes_on_and_loads_everything(trained, tmp_path, fast):
    """In the hidden directory where a training keeps its state; both of its servers."""
    state = tmp_path / "runs" / "pets" / "Trainer" / ".system" / "stateful_working_dir" / "f00d"
    logs = state / "tensorboard"
    logs.parent.mkdir(parents=True)
    logs.symlink_to(trained[0])
    command = ["tensorboard.main", "--logdir", tmp_path / "runs" / "pets", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command), "--load_fast", fast],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(
            found[0] for line in process.stderr if (found := re.search(r"http://\S+/", line))
        )
        whole = "Trainer/.system/stateful_working_dir/f00d/tensorboard"
        runs = [f"{whole}/{split}" for split in ("eval", "train")]
        limit = time.monotonic() + 30
        while sorted(found := json.loads(ask(address, "runs"))) != [whole, *runs]:
            assert time.monotonic() < limit, found
            time.sleep(0.2)
        tags = {
            plugin: json.loads(ask(address, f"plugin/{plugin}/tags"))
            for plugin in ("scalars", "images", "text")
        }
        assert {*tags["scalars"][runs[1]]} == _SCALARS
        assert {*tags["images"][runs[0]]} == {"confusion"}
        assert {*tags["images"][runs[1]]} == {"augmented"}
        assert tags["text"][runs[1]] == ["settings"]
        points = json.loads(ask(address, "plugin/scalars/scalars", run=runs[1], tag="loss"))
        assert len(points) == 12
        graph = ask(address, "plugin/graphs/graph", run=runs[1], conceptual="false").decode()
        assert 'name: "images"' in graph
        assert graph.count("node {") > 50
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()
