"""TF Serving's gRPC interface, with its own messages, which bring TensorFlow along."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from pipeline.errors import UsageError
from pipeline.serving import messages
from pipeline.serving.attempts import (
    Deadline,
    LateError,
    NotFoundError,
    ServingError,
    TooLargeError,
    UnavailableError,
)

_SIGNATURES = "signature_def"
_MOST_ANSWER_BYTES = 256 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MOST_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    # Behind a name with several addresses, as a headless Service has, requests go to all of them.
    ("grpc.lb_policy_name", "round_robin"),
    # Else a server that was gone for a moment is looked for after two minutes only.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # What is asked again, and how often, is one decision for both interfaces.
    ("grpc.enable_retries", 0),
)
# RESOURCE_EXHAUSTED is what REST calls 429.
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
# Stands before what this side refused, an answer.
_OWN = "CLIENT:"
# Of a message, and of a batch; the codes are those of other errors, too.
_TOO_LARGE = re.compile("larger than max|maximum input batch size")


class Grpc:
    """One model of a server behind gRPC.

    Args:
        target: Such as `"localhost:8500"`.
        model: The name of the model.
        version: A version of it, or None.
        label: A label of it, or None.
        token: A bearer token, or None.
        headers: Further metadata of each call.
        certificate: A PEM file with the authorities that are trusted, or None.
        is_secure: Whether the connection uses TLS.

    Raises:
        UsageError: The certificate cannot be read.
    """

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None,
        label: str | None,
        *,
        token: str | None,
        headers: Mapping[str, str],
        certificate: str | None,
        is_secure: bool,
    ):
        self._target = target
        self._url = f"grpc{'s' if is_secure else ''}://{target}"
        self._spec = model_pb2.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        elif label is not None:
            self._spec.version_label = label
        self._metadata = [(name.lower(), value) for name, value in headers.items()]
        if token is not None:
            self._metadata.append(("authorization", f"Bearer {token}"))
        if is_secure:
            credentials = grpc.ssl_channel_credentials(_authorities(certificate))
            self._channel = grpc.secure_channel(target, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def ask(
        self, signature: str, inputs: Mapping[str, messages.Value], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature; strings are an array of bytes objects."""
        request = messages.request(self._spec.name, signature, inputs)
        request.model_spec.MergeFrom(self._spec)
        return messages.outputs(self._call(self._predictions.Predict, request, deadline))

    def metadata(self, deadline: Deadline) -> dict[str, Any]:
        """Returns what the server says of the model's signatures, in REST's form."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self._spec)
        request.metadata_field.append(_SIGNATURES)
        answer = self._call(self._predictions.GetModelMetadata, request, deadline)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        try:
            answer.metadata[_SIGNATURES].Unpack(signatures)
        except DecodeError as error:
            raise ServingError(f"{self._url}: metadata that cannot be read: {error}") from None
        return {
            "model_spec": _as_json(answer.model_spec),
            "metadata": {_SIGNATURES: _as_json(signatures)},
        }

    def status(self, deadline: Deadline, every: bool = False) -> dict[str, Any]:
        """Returns the states of the version, of `every` one where there is none or it is asked."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        if every:
            request.model_spec.ClearField("version")
            request.model_spec.ClearField("version_label")
        return _as_json(self._call(self._models.GetModelStatus, request, deadline))

    def close(self) -> None:
        """Closes the connection and ends the calls that are under way."""
        self._channel.close()

    def _call(self, method: grpc.UnaryUnaryMultiCallable, request: Message, deadline: Deadline):
        try:
            return method(request, timeout=deadline.left(), metadata=self._metadata)
        except grpc.RpcError as error:
            self._refuse(error, deadline)
        except ValueError as error:
            # What the channel says that another thread has closed.
            raise ServingError(f"{self._url}: {error}") from None

    def _refuse(self, error: grpc.RpcError, deadline: Deadline) -> NoReturn:
        """Raises the error for an answer that is none."""
        code, said = error.code(), " ".join((error.details() or "").split())
        message = f"{self._url}: {code.name}: {said}"
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise LateError(
                f"{self._url}: no answer within {deadline.seconds:g} s; the server is busy or "
                "gone; a longer timeout, or fewer files in a request, may help"
            ) from None
        if _TOO_LARGE.search(said):
            if _OWN in said:
                raise ServingError(
                    f"{self._url}: an answer of more than {_MOST_ANSWER_BYTES >> 20} MiB; ask for "
                    "fewer files in a request"
                ) from None
            raise TooLargeError(f"{message}; send fewer or smaller files in a request") from None
        if code in _AGAIN:
            raise UnavailableError(message + self._hint(said)) from None
        if code == grpc.StatusCode.NOT_FOUND or "version label" in said:
            raise NotFoundError(message) from None
        if code == grpc.StatusCode.UNIMPLEMENTED:
            raise ServingError(
                f"{message}; this is not how TF Serving answers; expected the address of its gRPC "
                "port, such as grpc://localhost:8500"
            ) from None
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            message += "; a token or metadata that it expects may be missing"
        raise ServingError(message) from None

    def _hint(self, said: str) -> str:
        if "HTTP/2" in said:
            return (
                f"; what answers is no gRPC, perhaps TF Serving's REST port, http://{self._target}"
            )
        if "Connection refused" in said:
            return "; is the server running?"
        return ""


def _authorities(certificate: str | None) -> bytes | None:
    if certificate is None:
        return None
    try:
        return Path(certificate).read_bytes()
    except OSError as error:
        raise UsageError(
            f"certificate {certificate!r}: cannot be read ({error.strerror})"
        ) from None


def _as_json(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
