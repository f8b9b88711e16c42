"""The Beam pipeline of the Evaluator: every image of a split is shown to one model or two.

Images are read where they are asked about; only what the models said goes on, shard by shard, into
a file of JSON lines in the order of the records. Batches are cut shard by shard as well, so that no
answer depends on the number of workers or on who came first.
"""

import functools
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from pipeline import files
from pipeline.beam import execution, measures, parallel
from pipeline.beam.arrival import require_written
from pipeline.beam.reporter import Reporter
from pipeline.errors import DataError, UsageError
from pipeline.evaluation import predictions, slices
from pipeline.orchestration.artifact import Context
from pipeline.records import examples, manifest, tfrecord
from pipeline.records.example_proto import example_class

# Number of the shard, position of the first record in it, the records.
Batch = tuple[int, int, list[bytes]]
# Number of the shard, position of the first line in it, the lines.
Lines = tuple[int, int, list[str]]

_LOADING = threading.Lock()


@dataclass(frozen=True)
class Question:
    """What is asked about each image; it goes to the workers.

    Args:
        model: The directory of the SavedModel under evaluation.
        baseline: That of the one in production; None where there is none.
        classes: The class names in label order.
        features: The features of the examples that are wanted.
    """

    model: str
    baseline: str | None
    classes: tuple[str, ...]
    features: tuple[str, ...]

    def absolute(self) -> "Question":
        """Returns the question with paths that mean the same in every working directory."""
        before = self.baseline and str(Path(self.baseline).absolute())
        return replace(self, model=str(Path(self.model).absolute()), baseline=before)


def run(
    root: Path,
    contents: manifest.Manifest,
    split: str,
    question: Question,
    batch_size: int,
    destination: Path,
    context: Context,
) -> list[Path]:
    """Writes what the models say of each image of `split`, and returns the files, in shard order.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        split: Name of the split, which has examples.
        question: What is asked.
        batch_size: Images per call of a model.
        destination: The directory of the files.
        context: Its progress receives the number of images done.
    """
    root, destination = root.absolute(), destination.absolute()
    question = question.absolute()
    _defect.cache_clear()  # it may have been mended since
    shards = [(n, str(root / shard.file)) for n, shard in enumerate(contents.split(split).shards)]
    total = contents.split(split).examples
    destination.mkdir(parents=True, exist_ok=True)
    try:
        seen = [root, *map(Path, filter(None, (question.model, question.baseline)))]
        with execution.pipeline(context, total, destination, seen) as running:
            (
                running.pipeline
                | "List shards" >> beam.Create(shards)
                | "Spread" >> running.spread()
                | "Read" >> beam.FlatMap(functools.partial(batches, size=batch_size))
                | "Ask"
                >> parallel.spread(
                    functools.partial(ask, question),
                    _processes(running.processes),
                    running.reporter,
                )
                | "Count" >> beam.Map(_count, running.reporter)
                | "By shard" >> beam.MapTuple(_by_shard)
                | "Gather" >> beam.GroupByKey()
                | "Write" >> beam.MapTuple(functools.partial(write, destination))
            )
    finally:
        _loaded.cache_clear()  # the models that this process has loaded
    # Of a shard without records there is nothing to write.
    written = [
        _path(destination, number)
        for number, shard in enumerate(contents.split(split).shards)
        if shard.records
    ]
    require_written(written)
    return written


def _processes(most: int) -> int:
    """Returns how many processes ask: one where there is a GPU, which workers do not see."""
    if most == 1:
        return 1
    import tensorflow as tf

    return 1 if tf.config.list_physical_devices("GPU") else most


def batches(shard: tuple[int, str], size: int) -> Iterator[Batch]:
    """Yields the records of a shard, `size` at a time."""
    number, path = shard
    batch: list[bytes] = []
    position = 0
    for payload in tfrecord.read(Path(path)):
        batch.append(payload)
        if len(batch) == size:
            yield number, position, batch
            position += size
            batch = []
    if batch:
        yield number, position, batch


def ask(
    question: Question,
    batch: Batch,
    journal: Path | None = None,
    deadly: frozenset[str] = frozenset(),
) -> Lines:
    """Returns a line of JSON for each record of a batch; `parallel.Work`.

    These have been read and decoded before, so none is expected to kill its reader.
    """
    number, position, payloads = batch
    records = [examples.parse(payload) for payload in payloads]
    images = [record.encoded for record in records]
    rows = [
        {"key": record.key, "filename": record.filename, "class": record.text} for record in records
    ]
    labels = [record.label for record in records]
    answers = answer(question.model, images, labels, question.classes)
    for row, payload, record, own in zip(rows, payloads, records, answers, strict=True):
        row.update(own)
        row["features"] = features_of(payload, record, question.features)
    if question.baseline is not None:
        # A model in production that is damaged, or answers otherwise, is a reason in the verdict,
        # as other classes are.
        if defect := _defect(question.baseline):
            before = [{"error": defect}] * len(images)
        else:
            before = answer(question.baseline, images, labels, question.classes)
        for row, own in zip(rows, before, strict=True):
            row["baseline"] = {name: own[name] for name in own if name != "top"}
    return number, position, [json.dumps(row) for row in rows]


def answer(
    model: str, images: Sequence[bytes], labels: Sequence[int], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns what a model says of each image, or `error`: why it has nothing to say.

    Args:
        model: The directory of the SavedModel.
        images: Encoded images.
        labels: Their true classes.
        classes: The class names in label order.
    """
    found = _predictor(model)(images)
    if strange := _other_classes(found.probabilities, found.classes, classes):
        return [{"error": strange}] * len(images)
    rows: list[dict[str, Any]] = []
    for vector, label, error in zip(
        np.asarray(found.probabilities, np.float64), labels, found.errors, strict=True
    ):
        if error:
            rows.append({"error": error})
        elif not np.isfinite(vector).all():
            rows.append({"error": "a probability is not a finite number"})
        else:
            judged = predictions.judged(vector, label)
            judged["predicted"] = classes[judged["predicted"]]
            rows.append({**judged, "top": predictions.most_probable(vector, classes)})
    return rows


def _other_classes(
    probabilities: np.ndarray, names: Sequence[Sequence[str]], classes: Sequence[str]
) -> str:
    """Returns how the classes of a model differ from those of the examples; nothing if not."""
    if probabilities.shape[1] != len(classes):
        return f"it knows {probabilities.shape[1]} classes, and the examples {len(classes)}"
    for vector, said in zip(probabilities, names, strict=True):
        best = classes[int(vector.argmax())]
        # Where there is no answer, there is no name.
        if said and said[0] and np.isfinite(vector).all() and said[0] != best:
            return f"it calls {said[0]!r} what is {best!r} in the examples"
    return ""


def _predictor(model: str) -> Any:
    """Returns the loaded model, once in each process."""
    with _LOADING:  # slots of a cluster are threads of one process
        return _loaded(model)


@functools.lru_cache(maxsize=2)
def _loaded(model: str) -> Any:
    from pipeline.serving.predictor import Predictor

    return Predictor(Path(model))


@functools.lru_cache(maxsize=1)
def _defect(model: str) -> str:
    """Returns why a model cannot be asked, nothing if it can; found out once in each process."""
    try:
        _predictor(model)
    except (DataError, UsageError) as error:
        return str(error)
    return ""


def features_of(
    payload: bytes, record: examples.ImageExample, wanted: Sequence[str]
) -> dict[str, int | float | str | None]:
    """Returns the wanted features of a record; None for those that it does not have.

    Args:
        payload: The serialized example.
        record: The same, parsed.
        wanted: Names of features of the record, of measures of the picture, `image/size` (the
            square root of its pixels) or `image/folder` (where it came from).
    """
    found: dict[str, int | float | str | None] = {}
    picture = None
    if any(name in slices.MEASURED for name in wanted):
        picture = measures.measure(record.encoded)
    own = example_class().FromString(payload).features.feature if wanted else {}
    for name in wanted:
        if name == slices.SIZE:
            found[name] = float(np.sqrt(record.width * record.height))
        elif name == slices.FOLDER:
            found[name] = _text(os.fsencode(record.filename.rpartition("/")[0])) or None
        elif name in slices.MEASURED:
            measured = picture and picture.measures[name]
            found[name] = None if measured is None else measured / measures.SCALE
        else:
            found[name] = _first(own[name]) if name in own else None
    return found


def _first(feature: Any) -> int | float | str | None:
    """Returns the first value of a feature of a `tf.train.Example`."""
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if not values:
        return None
    return _text(values[0]) if kind == "bytes_list" else values[0]


def _text(content: bytes) -> str:
    """Returns bytes as text that any file can hold; what is not UTF-8 is escaped."""
    return content.decode(errors="backslashreplace")


def _by_shard(number: int, position: int, lines: list[str]) -> tuple[int, tuple[int, list[str]]]:
    return number, (position, lines)


def write(destination: Path, number: int, parts: Iterable[tuple[int, list[str]]]) -> None:
    """Writes the lines of one shard in the order of its records."""
    lines = (line for _, part in sorted(parts) for line in part)
    files.write_text(_path(destination, number), "".join(f"{line}\n" for line in lines))


def _path(destination: Path, number: int) -> Path:
    return destination / f"predictions-{number:05}.jsonl"


def _count(lines: Lines, reporter: Reporter) -> Lines:
    # Behind the work, which may be done in another process.
    reporter.tick(len(lines[2]))
    return lines


def images_at(
    root: Path, contents: manifest.Manifest, split: str, places: Sequence[tuple[int, int]]
) -> Mapping[tuple[int, int], examples.ImageExample]:
    """Returns the examples at the given places: number of the shard, position in it."""
    wanted: dict[int, set[int]] = {}
    for number, position in places:
        wanted.setdefault(number, set()).add(position)
    found = {}
    for number, positions in wanted.items():
        path = root / contents.split(split).shards[number].file
        for position, payload in enumerate(tfrecord.read(path)):
            if position in positions:
                found[number, position] = examples.parse(payload)
            if position >= max(positions):
                break
    return found
