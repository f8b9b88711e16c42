"""A version of a model: loaded, warmed up, asked, freed."""

import ctypes
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.records import tfrecord
from pipeline.serving import loader, versions
from pipeline.serving.laptop import codec
from pipeline.serving.session import Session, SessionError

# Kinds of errors, as gRPC numbers and names them.
OK, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, DATA_LOSS = 0, 2, 3, 5, 14, 15
CODES = {OK: "OK", 1: "CANCELLED", UNKNOWN: "UNKNOWN", INVALID_ARGUMENT: "INVALID_ARGUMENT"}
CODES |= {4: "DEADLINE_EXCEEDED", NOT_FOUND: "NOT_FOUND", 6: "ALREADY_EXISTS"}
CODES |= {7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION"}
CODES |= {10: "ABORTED", 11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 13: "INTERNAL"}
CODES |= {UNAVAILABLE: "UNAVAILABLE", DATA_LOSS: "DATA_LOSS", 16: "UNAUTHENTICATED"}


class LoadError(Exception):
    """A version cannot be served.

    Args:
        code: One of `CODES`.
        message: Why, in one line.
    """

    def __init__(self, code: int, message: str):
        super().__init__(" ".join(message.split()))
        self.code = code


class Loaded:
    """A SavedModel that has been loaded and has answered its warmup requests.

    Args:
        path: The directory of the version.
        stopping: Is set when the server is to end; what is left of the warmup is then left out.

    Raises:
        LoadError: It cannot be loaded, or fails at a warmup request.
    """

    def __init__(self, path: Path, stopping: threading.Event):
        if not (path / versions.SAVED_MODEL).is_file():
            raise LoadError(NOT_FOUND, f"{path}: has no {versions.SAVED_MODEL}")
        self._path = path
        # A request may have been given up while it is computed; what it computes with must stay.
        self._calls = threading.Condition()
        self._computing = 0
        self._is_closed = False
        try:
            self._session = Session(path)
        except SessionError as error:
            raise LoadError(error.code, f"{path}: {error}") from None
        try:
            self.signatures = {
                name: codec.signature_of(name, message)
                for name, message in self._session.signatures.items()
            }
            self.metadata = _metadata(self._session.signatures)
            self._warm_up(path / versions.WARMUP, stopping)
        except BaseException:
            self.close()
            raise

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature; several threads may ask at the same time.

        Raises:
            SessionError: TensorFlow failed, or this is closed.
            ValueError: An output is of a type that NumPy has not.
        """
        with self._calls:
            if self._is_closed:
                raise SessionError(UNAVAILABLE, f"{self._path}: is unloaded")
            self._computing += 1
        try:
            return self._session.run(signature, inputs)
        finally:
            with self._calls:
                self._computing -= 1
                self._calls.notify_all()

    def close(self) -> None:
        """Frees the memory once what is being computed is done; nothing is computed any more."""
        with self._calls:
            self._is_closed = True
            self._calls.wait_for(lambda: not self._computing)
        self._session.close()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)  # glibc would keep for itself what a large model leaves

    def _warm_up(self, path: Path, stopping: threading.Event) -> None:
        """Answers the requests to predict that came with the version."""
        from google.protobuf.message import DecodeError
        from tensorflow_serving.apis import prediction_log_pb2

        if not path.is_file():
            return
        try:
            for record in tfrecord.read(path):
                if stopping.is_set():
                    return
                log = prediction_log_pb2.PredictionLog.FromString(record)
                if log.HasField("predict_log"):
                    loader.answer(self._session, log.predict_log.request.SerializeToString())
        except SessionError as error:
            raise LoadError(error.code, f"warmup request of {path}: {error}") from None
        except (DataError, DecodeError, ValueError) as error:
            raise LoadError(DATA_LOSS, f"warmup requests of {path}: {error}") from None


def _metadata(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the signatures as TF Serving shows them."""
    from google.protobuf import json_format

    return {
        name: json_format.MessageToDict(
            message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
        )
        for name, message in sorted(signatures.items())
    }
