"""A process that serves a SavedModel through TensorFlow's C++ loader, the code of TF Serving.

Run as `python -m pipeline.serving.loader MODEL`, it loads the directory and answers serialized
`PredictRequest`s on its standard input with `PredictResponse`s on its standard output, each behind
its length in 8 bytes and each answer behind a byte that says whether it is one (1) or the text of
an error (0). The first answer, which needs no request, comes when the model is loaded.
"""

import math
import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.serving.session import NUMBERS, STRING, TYPES, Session, SessionError

LENGTH = struct.Struct("<Q")
ANSWER, ERROR = b"\1", b"\0"

# Where a `TensorProto` holds numbers; those that are missing here are in `int_val`.
_FIELDS = {"float32": "float_val", "float64": "double_val", "int64": "int64_val"}
_FIELDS |= {"bool": "bool_val", "float16": "half_val", "uint32": "uint32_val"}
_FIELDS |= {"uint64": "uint64_val"}


def answer(session: Session, request: bytes) -> bytes:
    """Returns the serialized `PredictResponse` for a serialized `PredictRequest`.

    Raises:
        ValueError: The model has no such signature, or it has other inputs.
        SessionError: TensorFlow failed.
    """
    from tensorflow_serving.apis import predict_pb2

    message = predict_pb2.PredictRequest.FromString(request)
    name = message.model_spec.signature_name or "serving_default"
    if name not in session.signatures:
        raise ValueError(f"no signature {name!r}; there are {sorted(session.signatures)}")
    expected = sorted(session.signatures[name].inputs)
    if sorted(message.inputs) != expected:
        raise ValueError(f"{name} takes {expected}; received {sorted(message.inputs)}")
    found = session.run(name, {key: array(message.inputs[key]) for key in expected})
    response = predict_pb2.PredictResponse(model_spec=message.model_spec)
    for key, value in found.items():
        tensor = response.outputs[key]
        tensor.tensor_shape.SetInParent()
        for size in value.shape:
            tensor.tensor_shape.dim.add(size=size)
        if value.dtype == object:
            tensor.dtype = STRING
            tensor.string_val.extend(value.ravel().tolist())
        else:
            tensor.dtype = NUMBERS[value.dtype]
            tensor.tensor_content = value.tobytes()
    return response.SerializeToString()


def array(message: Any) -> np.ndarray:
    """Returns the value of a `TensorProto`.

    Raises:
        ValueError: It is of a type that is not supported, or its values do not fill its shape.
    """
    shape = [dim.size for dim in message.tensor_shape.dim]
    count = math.prod(shape)
    if message.dtype == STRING:
        values = np.empty(count, object)
        values[:] = _filled(list(message.string_val), count)
        return values.reshape(shape)
    if message.dtype not in TYPES:
        raise ValueError(f"a tensor of TensorFlow's type {message.dtype}, which NumPy has not")
    kind = TYPES[message.dtype]
    if message.tensor_content:
        if len(message.tensor_content) != count * kind.itemsize:
            raise ValueError(f"{len(message.tensor_content)} bytes for {count} of {kind}")
        return np.frombuffer(message.tensor_content, kind).reshape(shape)
    given = np.array(getattr(message, _FIELDS.get(kind.name, "int_val")))
    if kind == np.float16:
        given = given.astype(np.uint16).view(kind)  # it holds their bits
    return np.array(_filled(given.tolist(), count), kind).reshape(shape)


def _filled(values: list, count: int) -> list:
    """Returns `count` values; those that are left out repeat the last one."""
    if count and not values:
        raise ValueError(f"a tensor without any of its {count} values")
    return values + values[-1:] * (count - len(values))


def serve(model: Path, requests: BinaryIO, answers: BinaryIO) -> None:
    """Loads a model and answers requests until there are no more."""
    try:
        session = Session(model)
    except SessionError as error:
        _write(answers, ERROR, str(error).encode())
        return
    _write(answers, ANSWER, b"")
    while head := requests.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        request = requests.read(length)
        try:
            _write(answers, ANSWER, answer(session, request))
        except (SessionError, ValueError) as error:
            _write(answers, ERROR, str(error).encode())


def _write(answers: BinaryIO, kind: bytes, content: bytes) -> None:
    answers.write(kind + LENGTH.pack(len(content)) + content)
    answers.flush()


if __name__ == "__main__":
    # TensorFlow may print to the standard output, which belongs to the answers.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), sys.stdin.buffer, channel)
    channel.flush()
    os._exit(0)  # TensorFlow's threads may outlive an orderly end
