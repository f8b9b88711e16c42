"""What a bulk job writes of a shard: what the model says of its images, and why it says nothing.

Both files appear whole, by one rename each, the predictions last: where they are, the shard is done.
"""

import contextlib
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline import files
from pipeline.bulk import reasons
from pipeline.errors import DataError
from pipeline.records import tfrecord

JSONL, PREDICTION_LOG = "jsonl", "prediction_log"
FORMATS = (JSONL, PREDICTION_LOG)

# The file of a shard, by its number and how many there are; as in TFX where the format is.
_NAMES = {
    JSONL: "predictions-{:05}-of-{:05}.jsonl",
    PREDICTION_LOG: "prediction_logs-{:05}-of-{:05}",
}
_ERRORS = "errors-{:05}-of-{:05}.jsonl"
PATTERNS = ("predictions-*-of-*.jsonl", "prediction_logs-*-of-*", "errors-*-of-*.jsonl")

_CHUNK = 1 << 20
# Digits of a number in JSON; a float32 has seven that count.
_DIGITS = 7


@dataclass(frozen=True)
class Place:
    """Where the files of a job lie.

    Args:
        directory: Theirs.
        scratch: A directory on the same file system, for files that are not complete.
        format: `"jsonl"` or `"prediction_log"`.
        count: The number of shards.
    """

    directory: Path
    scratch: Path
    format: str
    count: int

    def predictions(self, number: int) -> Path:
        """Returns the file of what the model says of the images of a shard."""
        return self.directory / _NAMES[self.format].format(number, self.count)

    def errors(self, number: int) -> Path:
        """Returns the file of the images of a shard that nothing is said of; it need not exist."""
        return self.directory / _ERRORS.format(number, self.count)


@dataclass(frozen=True)
class Written:
    """A file that is complete.

    Args:
        file: Its name.
        records: How many images it speaks of.
        bytes: Its size.
        sha256: Of its bytes.
        codes: Of dead letters, how many there are of each code.
    """

    file: str
    records: int
    bytes: int
    sha256: str
    codes: dict[str, int] = field(default_factory=dict)


class Sink:
    """Takes what becomes of the images of one shard, in their order.

    Args:
        predictions: Open for writing.
        errors: Open for writing.
        encode: Returns the bytes that a prediction is stored as.
    """

    def __init__(self, predictions: BinaryIO, errors: BinaryIO, encode: "Encode"):
        self._predictions, self._errors, self._encode = predictions, errors, encode

    def prediction(self, key: str, values: Mapping[str, Any]) -> None:
        """Writes what the model says of an image: names as a list, numbers as float32 (n,)."""
        self._predictions.write(self._encode(key, values))

    def error(self, key: str, code: str) -> None:
        """Writes that nothing is said of an image, and why."""
        row = {"path": key, "code": code, "reason": reasons.of(code)}
        self._errors.write(line(row))

    @property
    def has_errors(self) -> bool:
        """Whether there is any."""
        return self._errors.tell() > 0


Encode = Callable[[str, Mapping[str, Any]], bytes]


@contextlib.contextmanager
def writing(place: Place, number: int, encode: Encode) -> Iterator[Sink]:
    """Yields what takes the rows of a shard; its files appear when the block ends well.

    Leaves nothing behind when the body raises.
    """
    temporaries = [place.scratch / f"{uuid.uuid4().hex}.part" for _ in range(2)]
    try:
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(path.open("xb")) for path in temporaries]
            sink = Sink(*opened, encode)
            yield sink
            has_errors = sink.has_errors
            for file in opened:
                file.flush()
                os.fsync(file.fileno())
        errors, predictions = place.errors(number), place.predictions(number)
        if has_errors:
            temporaries[1].replace(errors)
        else:
            errors.unlink(missing_ok=True)  # of an attempt that was killed between the two
        files.fsync_directory(place.directory)
        temporaries[0].replace(predictions)
        files.fsync_directory(place.directory)
    finally:
        for path in temporaries:
            path.unlink(missing_ok=True)


def line(row: Mapping[str, Any]) -> bytes:
    """Returns a row as a line of JSON in UTF-8; names that are no text are escaped."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(row)}\n".encode()


def as_json(key: str, values: Mapping[str, Any]) -> bytes:
    """Returns a prediction as a line of JSON; numbers with the digits that a float32 has."""
    row: dict[str, Any] = {"path": key}
    for name, value in values.items():
        row[name] = value if isinstance(value, list) else _numbers(value)
    return line(row)


def _numbers(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def log_encoder(model: str, version: int | None, signature: str) -> Encode:
    """Returns what stores predictions as records of `PredictionLog`, as TFX's BulkInferrer does.

    The request has the key in place of the bytes of the image, which would store every image once
    more: an input `path` of shape (1,). In the response every output has a batch of one.

    Args:
        model: Its name.
        version: Its number, or None.
        signature: That was asked.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    head = prediction_log_pb2.PredictionLog()
    for spec in (head.predict_log.request.model_spec, head.predict_log.response.model_spec):
        spec.name, spec.signature_name = model, signature
        if version is not None:
            spec.version.value = version

    def encode(key: str, values: Mapping[str, Any]) -> bytes:
        log = prediction_log_pb2.PredictionLog()
        log.CopyFrom(head)
        _fill(log.predict_log.request.inputs["path"], [os.fsencode(key)])
        for name, value in values.items():
            texts = [text.encode() for text in value] if isinstance(value, list) else value
            _fill(log.predict_log.response.outputs[name], texts, 1)
        return tfrecord.frame(log.SerializeToString(deterministic=True))

    return encode


def _fill(tensor: Any, values: np.ndarray | list[bytes], *batch: int) -> None:
    """Fills a `TensorProto`; TensorFlow's own function takes ten times as long for so few."""
    for size in (*batch, len(values)):
        tensor.tensor_shape.dim.add(size=size)
    if isinstance(values, list):
        tensor.dtype = _STRING
        tensor.string_val.extend(values)
    else:
        tensor.dtype = _FLOAT
        tensor.tensor_content = values.astype("<f4").tobytes()


# `DataType` of TensorFlow, which need not be loaded for two numbers.
_FLOAT, _STRING = 1, 7


def whole(place: Place, number: int, rows: int) -> list[Written] | None:
    """Returns the files of a shard that is complete, or None where it is not.

    Args:
        place: Where they are.
        number: Of the shard.
        rows: How many images it has.
    """
    if not place.predictions(number).is_file():
        return None
    try:
        found = [_predictions(place, number)]
        if place.errors(number).is_file():
            found.append(_dead_letters(place.errors(number)))
    except (DataError, ValueError, KeyError):
        return None
    return found if sum(file.records for file in found) == rows else None


def _predictions(place: Place, number: int) -> Written:
    path = place.predictions(number)
    if place.format == PREDICTION_LOG:
        records = sum(1 for _ in tfrecord.read(path))
        return Written(path.name, records, path.stat().st_size, files.sha256_file(path))
    digest, records, size, last = hashlib.sha256(), 0, 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            records += chunk.count(b"\n")
            size += len(chunk)
            last = chunk[-1:]
    if last != b"\n":
        raise DataError(f"{path}: its last line is cut")
    return Written(path.name, records, size, digest.hexdigest())


def _dead_letters(path: Path) -> Written:
    content = path.read_bytes()
    codes = Counter(json.loads(row)["code"] for row in content.splitlines())
    digest = hashlib.sha256(content).hexdigest()
    return Written(path.name, codes.total(), len(content), digest, dict(sorted(codes.items())))
