"""The course of a training, read from its event files and drawn as curves. Needs no TensorFlow."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records import tfrecord
from pipeline.reporting import reading
from pipeline.reporting.charts import Scale, Tick

WIDTH, HEIGHT = 320.0, 170.0

_POINTS = 240  # of a curve; more would not be seen
_WIDE = 30.0  # a loss that falls by more is drawn by doublings
_SAMPLE_BYTES = 400_000

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Course:
    """What a training left of its way.

    Args:
        scalars: Split (`"train"`, `"eval"`) and name, such as `"loss"`, to steps and values.
        sample: A PNG of images as the network is shown them, or None.
        settings: What `settings.json` says; empty where it has not been written.
    """

    scalars: dict[tuple[str, str], Points]
    sample: bytes | None
    settings: dict[str, Any]

    @property
    def steps_per_epoch(self) -> float:
        """How many steps an epoch has; 1 where that is not known."""
        return self.settings.get("steps_per_epoch") or 1

    def typical(self, name: str) -> float | None:
        """Returns the median of a scalar of the training split, or None where there is none."""
        points = self.scalars.get(("train", name))
        return statistics.median(value for _, value in points) if points else None


@dataclass(frozen=True)
class Curve:
    """One curve: its split, the SVG path of its points, its last value and where that is."""

    split: str
    path: str
    last: float
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """Curves of one scalar over each other.

    Args:
        title: What is drawn.
        name: The scalar.
        curves: One for each split.
        x_ticks: Epochs.
        y_ticks: Values.
    """

    title: str
    name: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


_CHARTS = (
    ("Loss", "loss"),
    ("Accuracy", "accuracy"),
    ("Learning rate", "learning_rate"),
)


def read(model_run: Path) -> Course:
    """Reads what TensorBoard shows, as far as it was written.

    Args:
        model_run: A ModelRun artifact, or what a killed training has left of one.

    Raises:
        DataError: `settings.json` is damaged. An event file counts as far as it is whole.
    """
    scalars: dict[tuple[str, str], Points] = {}
    sample = None
    for split in ("train", "eval"):
        for path in sorted((model_run / "tensorboard" / split).glob("events.out.tfevents.*")):
            for tag, step, value in _values(path):
                if isinstance(value, float):
                    if math.isfinite(value):
                        scalars.setdefault((split, tag), []).append((step, value))
                elif tag == "augmented" and sample is None and len(value) <= _SAMPLE_BYTES:
                    sample = value
    return Course(scalars, sample, reading.json_file(model_run / "settings.json") or {})


def charts(course: Course) -> list[Chart]:
    """Draws the curves that there are; a scalar that was written once is no curve."""
    found = []
    for title, name in _CHARTS:
        lines = {split: own for (split, tag), own in course.scalars.items() if tag == name and own}
        if max(map(len, lines.values()), default=0) > 1:
            found.append(_chart(title, name, lines, course.steps_per_epoch))
    return found


def _chart(title: str, name: str, lines: Mapping[str, Points], steps_per_epoch: float) -> Chart:
    values = [value for own in lines.values() for _, value in own]
    low, high = min(values), max(values)
    doublings = name == "loss" and low > 0 and high / low > _WIDE
    if name == "accuracy":
        low, high = min(low, 0.9), 1.0
    elif not doublings:
        low = min(low, 0.0)
    room = 0.0 if doublings else 0.04 * (high - low)
    high += room if name != "accuracy" else 0.0
    if low == high:
        low, high = low - 0.5, high + 0.5
    end = max(own[-1][0] for own in lines.values()) / steps_per_epoch
    across = Scale(0.0, end, WIDTH, doublings=False)
    upwards = Scale(low, high, HEIGHT, doublings)

    def place(step: float, value: float) -> tuple[float, float]:
        return across(step / steps_per_epoch), round(HEIGHT - upwards(value), 1)

    curves = []
    for split, own in lines.items():
        points = [place(*point) for point in _thinned(own)]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        curves.append(Curve(split, path, own[-1][1], *points[-1]))
    return Chart(
        title,
        name,
        tuple(curves),
        across.ticks(),
        tuple(Tick(round(HEIGHT - tick.at, 1), tick.value) for tick in upwards.ticks()),
    )


def _thinned(points: Points) -> Sequence[tuple[float, float]]:
    """Returns at most so many points as can be seen, each the mean of its neighbours; the last stays."""
    if len(points) <= _POINTS:
        return points
    parts = np.array_split(np.array(points[:-1], np.float64), _POINTS - 1)
    return [*(tuple(part.mean(axis=0).tolist()) for part in parts), points[-1]]


def _values(path: Path):
    """Yields tag, step and value of scalars (floats) and of pictures (bytes of a PNG)."""
    from tensorboard.compat.proto.event_pb2 import Event

    with path.open("rb") as file:
        try:
            for record in tfrecord.records(file, path):
                if not record.intact:
                    return
                event = Event.FromString(record.payload)
                for value in event.summary.value:
                    plugin = value.metadata.plugin_data.plugin_name
                    if plugin == "scalars":
                        number = value.tensor.float_val or np.frombuffer(
                            value.tensor.tensor_content, "<f4"
                        )
                        yield value.tag, event.step, float(number[0])
                    elif plugin == "images" and len(value.tensor.string_val) > 2:
                        yield value.tag, event.step, value.tensor.string_val[2]
        except tfrecord.DamageError:
            return  # a process that is killed may leave a record that it has not written to the end
