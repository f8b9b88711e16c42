"""A stand-in for TF Serving behind gRPC: its own servicers and messages over a real SavedModel.

Codes and texts of errors are those of `model_servers/server_core.cc` and `get_model_status_impl.cc`.
"""

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

Fault = Callable[[grpc.ServicerContext], None]

_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


def fails(code: grpc.StatusCode, text: str = "by order of the test") -> Fault:
    """Returns a fault: the call is refused."""
    return lambda context: context.abort(code, text)


class Server(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Serves one model under several versions and labels.

    Args:
        model: The directory of a SavedModel, which all versions are.
        name: The model's name.
        versions: Their numbers.
        labels: Versions by label.
    """

    def __init__(self, model: Path, name: str, versions: list[int], labels: dict[str, int]):
        self._loaded = tf.saved_model.load(str(model))
        parsed = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
        self._described = parsed.meta_graphs[0].signature_def
        self._name, self._versions, self._labels = name, versions, labels
        self._lock = threading.Lock()
        self.faults: list[Fault] = []
        self.requests: list[predict_pb2.PredictRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.port = 0

    def again(self) -> "Server":
        """Returns another server of the same model."""
        other = copy.copy(self)
        other.faults, other.requests, other.metadata = [], [], []
        return other

    def Predict(self, request, context):
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            fault(context)
        version = self._version(request.model_spec, context)
        signature = self._loaded.signatures.get(request.model_spec.signature_name)
        if signature is None:
            name = request.model_spec.signature_name
            text = f'Serving signature key "{name}" not found.'
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
        inputs = {key: tf.constant(tf.make_ndarray(x)) for key, x in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = version
        for key, value in signature(**inputs).items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response

    def GetModelMetadata(self, request, context):
        version = self._version(request.model_spec, context)
        assert list(request.metadata_field) == ["signature_def"]
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in self._described.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self._name
        response.model_spec.version.value = version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def GetModelStatus(self, request, context):
        versions = self._versions
        if request.model_spec.HasField("version"):
            versions = [v for v in versions if v == request.model_spec.version.value]
        if request.model_spec.name != self._name or not versions:
            text = f"Could not find any versions of model {request.model_spec.name}"
            context.abort(grpc.StatusCode.NOT_FOUND, text)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            added = response.model_version_status.add(version=version, state=_AVAILABLE)
            added.status.error_code = 0
        return response

    def _version(self, spec: model_pb2.ModelSpec, context: grpc.ServicerContext) -> int:
        label = spec.version_label
        if spec.name == self._name and label:
            if label not in self._labels:
                text = f"Unrecognized servable version label: {label}"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
            return self._labels[label]
        asked = spec.version.value if spec.HasField("version") else max(self._versions)
        if spec.name != self._name or asked not in self._versions:
            found = "Specific" if spec.HasField("version") else "Latest"
            text = f"Servable not found for request: {found}({spec.name}, {asked})"
            context.abort(grpc.StatusCode.NOT_FOUND, text)
        return asked

    @contextlib.contextmanager
    def running(
        self, credentials: grpc.ServerCredentials | None = None, port: int = 0, limit: int = -1
    ) -> Iterator["Server"]:
        """Listens on this machine until the body ends.

        Args:
            credentials: Of TLS, or None.
            port: Where; by default one that is free.
            limit: The most bytes of a request, -1 for any.
        """
        options = [("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)]
        server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield self
        finally:
            server.stop(0).wait()
