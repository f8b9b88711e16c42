"""Curves of a training: read as they were written, also from a process that was killed."""

import math
from itertools import pairwise

import pytest

from pipeline.errors import DataError
from pipeline.reporting import training_curves
from pipeline.reporting.training_curves import HEIGHT, WIDTH, Course
from pipeline.training.events import Events
from tests.pipeline.reporting import runs


def numbers(path):
    """Returns the points of an SVG path."""
    return [tuple(map(float, point.split())) for point in path[1:].split("L")]


def test_scalars_settings_and_pictures_are_read_as_they_were_written(tmp_path):
    runs.write_training(tmp_path, steps=40)
    course = training_curves.read(tmp_path)
    assert course.scalars["train", "loss"] == [(n, pytest.approx(2 / n)) for n in range(2, 41, 2)]
    assert course.scalars["eval", "accuracy"] == [(20, 0.5), (40, 0.5)]
    assert course.settings == runs.settings(40)
    assert course.sample.startswith(b"\x89PNG")
    assert course.typical("images_per_second") == 121 and course.typical("unknown") is None


def test_files_of_a_process_that_was_killed_are_read_as_far_as_they_go(tmp_path):
    runs.write_training(tmp_path)
    (file,) = (tmp_path / "tensorboard" / "train").iterdir()
    whole = training_curves.read(tmp_path).scalars["train", "loss"]
    content = file.read_bytes()
    for cut in (len(content) - 3, len(content) // 2, len(content) // 2 + 9, 20, 0):
        file.write_bytes(content[:cut])
        read = training_curves.read(tmp_path).scalars.get(("train", "loss"), [])
        assert read == whole[: len(read)] and len(read) < len(whole) + (cut > len(content) - 9)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    file.write_bytes(damaged)
    read = training_curves.read(tmp_path).scalars["train", "loss"]
    assert read == whole[: len(read)]


def test_a_second_process_goes_on_in_a_second_file(tmp_path):
    for first, step in ((0, 1), (1, 2)):
        events = Events(tmp_path / "tensorboard" / "train", first)
        events.scalar("loss", 3.0 - step, step)
        events.close()
    assert training_curves.read(tmp_path).scalars["train", "loss"] == [(1, 2.0), (2, 1.0)]


def test_what_is_no_number_is_no_point(tmp_path):
    events = Events(tmp_path / "tensorboard" / "train", 0)
    for step, value in enumerate((1.0, math.nan, math.inf, 2.0)):
        events.scalar("loss", value, step)
    events.close()
    assert training_curves.read(tmp_path).scalars["train", "loss"] == [(0, 1.0), (3, 2.0)]


def test_without_files_there_is_a_course_without_curves(tmp_path):
    assert training_curves.charts(training_curves.read(tmp_path)) == []


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DataError, match=r"settings\.json"):
        training_curves.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("loss", [5.0, 0.01, 0.02]),
        ("loss", [-1.0, 2.0]),
        ("learning_rate", [0.3, 0.3]),
        ("learning_rate", [0.0, 0.0]),
        ("accuracy", [0.1, 1.0]),
        ("accuracy", [1.0, 1.0]),
    ],
)
def test_curves_stay_within_their_frames(name, values):
    points = [(10 * n, value) for n, value in enumerate(values, 1)]
    course = Course({("train", name): points, ("eval", name): points[-1:]}, None, {})
    (chart,) = training_curves.charts(course)
    for curve in chart.curves:
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in numbers(curve.path))
    train = chart.curves[0]
    assert (train.x, train.y) == numbers(train.path)[-1] and train.last == values[-1]
    assert all(0 <= tick.at <= HEIGHT for tick in chart.y_ticks)


def test_a_loss_that_falls_by_much_is_drawn_by_doublings():
    points = [(n, 2.0**-n) for n in range(1, 11)]
    (chart,) = training_curves.charts(Course({("train", "loss"): points}, None, {}))
    heights = [y for _, y in numbers(chart.curves[0].path)]
    steps = [below - above for above, below in pairwise(heights)]
    assert max(steps) - min(steps) < 0.3


def test_a_long_curve_is_thinned_to_means_and_keeps_its_end():
    points = [(n, float(n % 2)) for n in range(1, 10_001)]
    (chart,) = training_curves.charts(Course({("train", "learning_rate"): points}, None, {}))
    (curve,) = chart.curves
    assert len(numbers(curve.path)) <= 240 and curve.x == WIDTH
    # Zeros and ones in turn: the mean of neighbours is a half, in the middle of the drawing.
    middle = [y for _, y in numbers(curve.path)[:-1]]
    assert all(0.4 * HEIGHT < y < 0.6 * HEIGHT for y in middle)


def test_epochs_are_the_measure_where_they_are_known():
    points = [(n, 1.0 + n) for n in range(0, 101, 10)]
    course = Course({("train", "learning_rate"): points}, None, {"steps_per_epoch": 10})
    (chart,) = training_curves.charts(course)
    assert [tick.value for tick in chart.x_ticks][-1] == 10
