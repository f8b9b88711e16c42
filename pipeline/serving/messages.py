"""Requests and answers as TF Serving's own messages."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

Value = np.ndarray | Sequence[bytes]


def request(model: str, signature: str, inputs: Mapping[str, Value]) -> predict_pb2.PredictRequest:
    """Returns the request for a prediction.

    Args:
        model: The name under which the server knows the model.
        signature: Such as `"serving_default"`.
        inputs: For each input an array, or byte strings, the batch in front.
    """
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model
    message.model_spec.signature_name = signature
    for name, value in inputs.items():
        # NumPy's own strings would lose zeros at the end.
        array = value if isinstance(value, np.ndarray) else np.array(list(value), object)
        message.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return message


def outputs(response: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    """Returns the arrays of an answer; strings are an array of bytes objects."""
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}


def parsed(response: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a serialized answer."""
    return outputs(predict_pb2.PredictResponse.FromString(response))
