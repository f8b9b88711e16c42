"""The requests that TF Serving answers for itself before it takes a new version into use."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from pipeline.records import tfrecord
from pipeline.serving import messages

# With more, TF Serving refuses to load the model.
MOST_REQUESTS = 1_000


def batch_sizes(largest: int) -> list[int]:
    """Returns the powers of two below `largest`, and it: what TF Serving pads batches to."""
    return sorted({1 << power for power in range(largest.bit_length())} | {largest})


def write(
    path: Path, model: str, images: Sequence[bytes], largest: int
) -> list[predict_pb2.PredictRequest]:
    """Writes one request to `serving_default` for each batch size.

    Other signatures are left to the first who asks: each that has been used keeps the constants of
    the network in memory once more.

    Args:
        path: A file that must not exist, in a directory that is not yet visible.
        model: The name of the model.
        images: Encoded images that can be decoded.
        largest: The largest batch.

    Returns:
        The requests.
    """
    requests = list(_requests(model, images, largest))[:MOST_REQUESTS]
    path.parent.mkdir(parents=True)
    tfrecord.write(
        path,
        (
            prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            ).SerializeToString()
            for request in requests
        ),
    )
    return requests


def _requests(
    model: str, images: Sequence[bytes], largest: int
) -> Iterator[predict_pb2.PredictRequest]:
    for size in batch_sizes(largest):
        batch = [images[place % len(images)] for place in range(size)]
        yield messages.request(model, "serving_default", {"image_bytes": batch})
