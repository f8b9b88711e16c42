"""A SavedModel in TensorFlow's C++ loader, the code of TF Serving, without TensorFlow's Python.

The directory is loaded with the C API's `TF_LoadSessionFromSavedModel`. Neither TensorFlow's Python
nor Keras nor anything of this project's networks is imported: what TF Serving has not, it has not
either.
"""

import ctypes
import functools
import importlib.util
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Loading TensorFlow before it crashes NumPy's generators.
import numpy as np
import numpy.random

_TAG = b"serve"
# An operation without outputs that initialises tables is listed as a signature, too.
_INTERNAL = "__saved_model"
_STRING_BYTES = 24

STRING = 7
# TensorFlow's numbers of the types of numbers.
TYPES = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    5: np.dtype(np.int16),
    6: np.dtype(np.int8),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    17: np.dtype(np.uint16),
    19: np.dtype(np.float16),
    22: np.dtype(np.uint32),
    23: np.dtype(np.uint64),
}
NUMBERS = {kind: number for number, kind in TYPES.items()}


class SessionError(Exception):
    """TensorFlow failed; the message is its own.

    Args:
        code: The number of the error's kind, as gRPC counts them; 3 is INVALID_ARGUMENT.
        message: What TensorFlow says.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class Session:
    """A SavedModel that the C++ loader has loaded. Several threads may ask it at the same time.

    Args:
        model: The directory with `saved_model.pb`.

    Raises:
        SessionError: It cannot be loaded.
    """

    def __init__(self, model: Path):
        folder = _messages_only()
        from tensorflow.core.protobuf import meta_graph_pb2

        self._c = _library(folder)
        self._graph = self._c.TF_NewGraph()
        self._session = None
        options = self._c.TF_NewSessionOptions()
        description = self._c.TF_NewBuffer()
        try:
            self._session = self._checked(
                self._c.TF_LoadSessionFromSavedModel,
                options,
                None,
                os.fsencode(model),
                (ctypes.c_char_p * 1)(_TAG),
                1,
                self._graph,
                description,
            )
            content = ctypes.cast(description, ctypes.POINTER(_Buffer)).contents
            found = meta_graph_pb2.MetaGraphDef.FromString(
                ctypes.string_at(content.data, content.length)
            )
        except BaseException:
            self.close()
            raise
        finally:
            self._c.TF_DeleteBuffer(description)
            self._c.TF_DeleteSessionOptions(options)
        # Messages keep the whole graph alive that they are a part of.
        self.signatures: dict[str, Any] = {}
        for name, signature in found.signature_def.items():
            if not name.startswith(_INTERNAL):
                self.signatures[name] = type(signature)()
                self.signatures[name].CopyFrom(signature)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature.

        Args:
            signature: One of `signatures`.
            inputs: An array for each of its inputs, of its type; strings are objects of type bytes.

        Raises:
            SessionError: TensorFlow failed.
            ValueError: An output is of a type that NumPy has not.
        """
        described = self.signatures[signature]
        names = sorted(described.outputs)
        fed = (ctypes.c_void_p * len(inputs))()
        fetched = (ctypes.c_void_p * len(names))()
        try:
            for place, array in enumerate(inputs.values()):
                fed[place] = self._tensor(array)
            given = (described.inputs[name].name for name in inputs)
            wanted = (described.outputs[name].name for name in names)
            self._checked(
                self._c.TF_SessionRun,
                self._session,
                None,
                (_Output * len(inputs))(*map(self._place, given)),
                fed,
                len(inputs),
                (_Output * len(names))(*map(self._place, wanted)),
                fetched,
                len(names),
                None,
                0,
                None,
            )
            return {name: self._array(tensor) for name, tensor in zip(names, fetched, strict=True)}
        finally:
            for tensor in (*fed, *fetched):
                if tensor:
                    self._c.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Frees the memory of the model, which must not be asked any more."""
        if self._session:
            self._checked(self._c.TF_CloseSession, self._session)
            self._checked(self._c.TF_DeleteSession, self._session)
            self._session = None
        if self._graph:
            self._c.TF_DeleteGraph(self._graph)
            self._graph = None

    def _checked(self, function: Any, *arguments: Any) -> Any:
        """Calls a function that takes a status last, and raises what the status says."""
        status = self._c.TF_NewStatus()
        try:
            result = function(*arguments, status)
            if code := self._c.TF_GetCode(status):
                message = self._c.TF_Message(status).decode(errors="replace")
                raise SessionError(code, message)
            return result
        finally:
            self._c.TF_DeleteStatus(status)

    def _place(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = self._c.TF_GraphOperationByName(self._graph, operation.encode())
        return _Output(found, int(index or 0))

    def _tensor(self, array: np.ndarray) -> int:
        dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
        if array.dtype != object:
            content = np.ascontiguousarray(array)
            number, size = NUMBERS[content.dtype], content.nbytes
            tensor = self._c.TF_AllocateTensor(number, dimensions, content.ndim, size)
            if size:
                ctypes.memmove(self._c.TF_TensorData(tensor), content.ctypes.data, size)
            return tensor
        size = array.size * _STRING_BYTES
        tensor = self._c.TF_AllocateTensor(STRING, dimensions, array.ndim, size)
        start = self._c.TF_TensorData(tensor)
        for index, value in enumerate(array.ravel()):
            place = start + index * _STRING_BYTES
            self._c.TF_StringInit(place)
            self._c.TF_StringCopy(place, value, len(value))
        return tensor

    def _array(self, tensor: int) -> np.ndarray:
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        start, kind = self._c.TF_TensorData(tensor), self._c.TF_TensorType(tensor)
        if kind == STRING:
            values = np.empty(int(np.prod(shape)), object)
            for index in range(len(values)):
                place = start + index * _STRING_BYTES
                length = self._c.TF_StringGetSize(place)
                values[index] = ctypes.string_at(self._c.TF_StringGetDataPointer(place), length)
            return values.reshape(shape)
        if kind not in TYPES:
            raise ValueError(f"an output has TensorFlow's type {kind}, which NumPy has not")
        content = ctypes.string_at(start, self._c.TF_TensorByteSize(tensor))
        return np.frombuffer(content, TYPES[kind]).reshape(shape)


def _messages_only() -> Path:
    """Lets TensorFlow's messages be imported without TensorFlow, and returns its folder."""
    found = importlib.util.find_spec("tensorflow")
    if "tensorflow" not in sys.modules:
        stand_in = types.ModuleType("tensorflow")
        stand_in.__spec__ = found
        stand_in.__path__ = list(found.submodule_search_locations)
        sys.modules["tensorflow"] = stand_in
    return Path(found.origin).parent


@functools.cache
def _library(folder: Path) -> ctypes.CDLL:
    ending = "2.dylib" if sys.platform == "darwin" else "so.2"
    ctypes.CDLL(str(folder / f"libtensorflow_framework.{ending}"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / f"libtensorflow_cc.{ending}"), ctypes.RTLD_GLOBAL)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for name, result, arguments in (
        ("TF_NewStatus", pointer, ()),
        ("TF_DeleteStatus", None, (pointer,)),
        ("TF_GetCode", number, (pointer,)),
        ("TF_Message", ctypes.c_char_p, (pointer,)),
        ("TF_NewGraph", pointer, ()),
        ("TF_DeleteGraph", None, (pointer,)),
        ("TF_NewBuffer", pointer, ()),
        ("TF_DeleteBuffer", None, (pointer,)),
        ("TF_NewSessionOptions", pointer, ()),
        ("TF_DeleteSessionOptions", None, (pointer,)),
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
        ("TF_CloseSession", None, (pointer, pointer)),
        ("TF_DeleteSession", None, (pointer, pointer)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
