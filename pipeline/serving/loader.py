"""A process that serves a SavedModel through TensorFlow's C++ loader, the code of TF Serving.

Run as `python -m pipeline.serving.loader MODEL`, it loads the directory with the C API's
`TF_LoadSessionFromSavedModel` and answers serialized `PredictRequest`s on its standard input with
`PredictResponse`s on its standard output, each behind its length in 8 bytes and each answer behind
a byte that says whether it is one (1) or the text of an error (0). The first answer, which needs no
request, comes when the model is loaded.

Neither TensorFlow's Python nor Keras nor anything of this project's networks is imported: what TF
Serving has not, it has not either.
"""

import ctypes
import importlib.util
import os
import struct
import sys
import types
from pathlib import Path
from typing import BinaryIO

# Loading TensorFlow before it crashes NumPy's generators.
import numpy as np
import numpy.random

LENGTH = struct.Struct("<Q")
ANSWER, ERROR = b"\1", b"\0"

_STRING = 7
_STRING_BYTES = 24
# TensorFlow's numbers of the types of numbers.
_TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
_NUMBERS = {np.dtype(kind): number for number, kind in _TYPES.items()}


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class Session:
    """A SavedModel that the C++ loader has loaded.

    Args:
        model: The directory with `saved_model.pb`.

    Raises:
        RuntimeError: It cannot be loaded; the message is TensorFlow's.
    """

    def __init__(self, model: Path):
        folder = _messages_only()
        from tensorflow.core.protobuf import meta_graph_pb2

        self._c = _library(folder)
        self._status = self._c.TF_NewStatus()
        self._graph = self._c.TF_NewGraph()
        description = self._c.TF_NewBuffer()
        self._session = self._c.TF_LoadSessionFromSavedModel(
            self._c.TF_NewSessionOptions(),
            None,
            os.fsencode(model),
            (ctypes.c_char_p * 1)(b"serve"),
            1,
            self._graph,
            description,
            self._status,
        )
        self._check()
        content = ctypes.cast(description, ctypes.POINTER(_Buffer)).contents
        found = meta_graph_pb2.MetaGraphDef.FromString(
            ctypes.string_at(content.data, content.length)
        )
        self._c.TF_DeleteBuffer(description)
        self._signatures = dict(found.signature_def)

    def answer(self, request: bytes) -> bytes:
        """Returns the serialized `PredictResponse` for a serialized `PredictRequest`.

        Raises:
            ValueError: The model has no such signature, or it has other inputs.
            RuntimeError: TensorFlow failed; the message is its own.
        """
        from tensorflow_serving.apis import predict_pb2

        message = predict_pb2.PredictRequest.FromString(request)
        name = message.model_spec.signature_name or "serving_default"
        if name not in self._signatures:
            raise ValueError(f"no signature {name!r}; there are {sorted(self._signatures)}")
        signature = self._signatures[name]
        if set(message.inputs) != set(signature.inputs):
            raise ValueError(
                f"{name} takes {sorted(signature.inputs)}; received {sorted(message.inputs)}"
            )
        given = {signature.inputs[key].name: value for key, value in message.inputs.items()}
        keys = sorted(signature.outputs)
        found = self._run(given, [signature.outputs[key].name for key in keys])
        response = predict_pb2.PredictResponse(model_spec=message.model_spec)
        for key, value in zip(keys, found, strict=True):
            tensor = response.outputs[key]
            tensor.tensor_shape.SetInParent()
            for size in value.shape:
                tensor.tensor_shape.dim.add(size=size)
            if value.dtype == object:
                tensor.dtype = _STRING
                tensor.string_val.extend(value.ravel().tolist())
            else:
                tensor.dtype = _NUMBERS[value.dtype]
                tensor.tensor_content = value.tobytes()
        return response.SerializeToString()

    def _run(self, given: dict, wanted: list[str]) -> list[np.ndarray]:
        inputs = (_Output * len(given))(*map(self._place, given))
        outputs = (_Output * len(wanted))(*map(self._place, wanted))
        fed = (ctypes.c_void_p * len(given))(*map(self._tensor, given.values()))
        fetched = (ctypes.c_void_p * len(wanted))()
        self._c.TF_SessionRun(
            self._session,
            None,
            inputs,
            fed,
            len(given),
            outputs,
            fetched,
            len(wanted),
            None,
            0,
            None,
            self._status,
        )
        try:
            self._check()
            return [self._array(tensor) for tensor in fetched]
        finally:
            for tensor in (*fed, *fetched):
                if tensor:
                    self._c.TF_DeleteTensor(tensor)

    def _place(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._c.TF_GraphOperationByName(self._graph, operation.encode())
        return _Output(found, int(index or 0))

    def _tensor(self, message) -> int:
        """Returns a new tensor with the value of a `TensorProto`."""
        shape = [dim.size for dim in message.tensor_shape.dim]
        dimensions = (ctypes.c_int64 * len(shape))(*shape)
        if message.dtype == _STRING:
            count = int(np.prod(shape))
            values = list(message.string_val)
            values += values[-1:] * (count - len(values))  # what is left out repeats the last one
            size = count * _STRING_BYTES
            tensor = self._c.TF_AllocateTensor(_STRING, dimensions, len(shape), size)
            start = self._c.TF_TensorData(tensor)
            for index, value in enumerate(values):
                place = start + index * _STRING_BYTES
                self._c.TF_StringInit(place)
                self._c.TF_StringCopy(place, value, len(value))
            return tensor
        content = message.tensor_content
        if len(content) != np.prod(shape) * np.dtype(_TYPES[message.dtype]).itemsize:
            raise ValueError("numbers are taken from `tensor_content` alone, of the tensor's size")
        tensor = self._c.TF_AllocateTensor(message.dtype, dimensions, len(shape), len(content))
        ctypes.memmove(self._c.TF_TensorData(tensor), content, len(content))
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        start, kind = self._c.TF_TensorData(tensor), self._c.TF_TensorType(tensor)
        if kind != _STRING:
            content = ctypes.string_at(start, self._c.TF_TensorByteSize(tensor))
            return np.frombuffer(content, _TYPES[kind]).reshape(shape)
        values = np.empty(int(np.prod(shape)), object)
        for index in range(len(values)):
            place = start + index * _STRING_BYTES
            length = self._c.TF_StringGetSize(place)
            values[index] = ctypes.string_at(self._c.TF_StringGetDataPointer(place), length)
        return values.reshape(shape)

    def _check(self) -> None:
        if self._c.TF_GetCode(self._status):
            raise RuntimeError(self._c.TF_Message(self._status).decode(errors="replace"))


def serve(model: Path, requests: BinaryIO, answers: BinaryIO) -> None:
    """Loads a model and answers requests until there are no more."""
    try:
        session = Session(model)
    except RuntimeError as error:
        _write(answers, ERROR, str(error).encode())
        return
    _write(answers, ANSWER, b"")
    while head := requests.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        request = requests.read(length)
        try:
            _write(answers, ANSWER, session.answer(request))
        except (RuntimeError, ValueError) as error:
            _write(answers, ERROR, str(error).encode())


def _write(answers: BinaryIO, kind: bytes, content: bytes) -> None:
    answers.write(kind + LENGTH.pack(len(content)) + content)
    answers.flush()


def _messages_only() -> Path:
    """Lets TensorFlow's messages be imported without TensorFlow, and returns its folder."""
    (folder,) = importlib.util.find_spec("tensorflow").submodule_search_locations
    if "tensorflow" not in sys.modules:
        stand_in = types.ModuleType("tensorflow")
        stand_in.__path__ = [folder]
        sys.modules["tensorflow"] = stand_in
    return Path(folder)


def _library(folder: Path) -> ctypes.CDLL:
    ending = "2.dylib" if sys.platform == "darwin" else "so.2"
    ctypes.CDLL(str(folder / f"libtensorflow_framework.{ending}"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / f"libtensorflow_cc.{ending}"), ctypes.RTLD_GLOBAL)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for name, result, arguments in (
        ("TF_NewStatus", pointer, ()),
        ("TF_GetCode", number, (pointer,)),
        ("TF_Message", ctypes.c_char_p, (pointer,)),
        ("TF_NewGraph", pointer, ()),
        ("TF_NewBuffer", pointer, ()),
        ("TF_DeleteBuffer", None, (pointer,)),
        ("TF_NewSessionOptions", pointer, ()),
        ("TF_GraphOperationByName", pointer, (pointer, ctypes.c_char_p)),
        ("TF_AllocateTensor", pointer, (number, pointer, number, size)),
        ("TF_DeleteTensor", None, (pointer,)),
        ("TF_TensorData", pointer, (pointer,)),
        ("TF_TensorByteSize", size, (pointer,)),
        ("TF_TensorType", number, (pointer,)),
        ("TF_NumDims", number, (pointer,)),
        ("TF_Dim", ctypes.c_int64, (pointer, number)),
        ("TF_StringInit", None, (pointer,)),
        ("TF_StringCopy", None, (pointer, ctypes.c_char_p, size)),
        ("TF_StringGetSize", size, (pointer,)),
        ("TF_StringGetDataPointer", pointer, (pointer,)),
        (
            "TF_LoadSessionFromSavedModel",
            pointer,
            (pointer, pointer, ctypes.c_char_p, pointer, number, pointer, pointer, pointer),
        ),
        (
            "TF_SessionRun",
            None,
            (*[pointer] * 4, number, *[pointer] * 2, number, pointer, number, *[pointer] * 2),
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


if __name__ == "__main__":
    # TensorFlow may print to the standard output, which belongs to the answers.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), sys.stdin.buffer, channel)
    channel.flush()
    os._exit(0)  # TensorFlow's threads may outlive an orderly end
