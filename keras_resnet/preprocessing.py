"""From pictures to what a set of weights expects, and from probabilities to names."""

import json
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet import _backend
from keras_resnet._validation import check_integer
from keras_resnet.weights.download import cache_folder, fetch_file
from keras_resnet.weights.records import ImageFormat, WeightsRecord, find_record

_CLASS_INDEX = (
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "imagenet_class_index.json",
    "md5:c2c37ea517e94d9795004a39431a14cb",
)


def image_format(weights: str | WeightsRecord | ImageFormat) -> ImageFormat:
    """What images a set of weights expects.

    Args:
        weights: One of `keras_resnet.list_weights()`; the name of a network, for its default
            weights; or a record, or the format itself.

    Raises:
        ValueError: If there are no such weights.
    """
    if isinstance(weights, ImageFormat):
        return weights
    record = weights if isinstance(weights, WeightsRecord) else find_record(weights)
    return record.images


@keras.saving.register_keras_serializable(package="keras_resnet")
class Preprocessing(keras.layers.Layer):
    """Turns pictures of 0 to 255 into what a set of weights expects.

    The centre square of each picture is resized to the size of the weights, and its pixels become
    `(scale * pixel - mean) / std`, with the numbers of the weights' record. The square is `crop`
    times as wide as the shorter side, to the pixel; where the record has no `crop`, the whole
    picture is resized.

    The layer can stand at the beginning of a model, and on every backend in a `tf.data` dataset,
    where the pictures may have different sizes.

    Args:
        weights: One of `keras_resnet.list_weights()`, or the name of a network.
        image_size: Height and width in pixels that come out; by default those of the record. False
            leaves the pictures as large as they are.
        crop: Share of the shorter side; by default that of the record.
        **kwargs: `name` of `keras.Layer`. The layer works in float32 in any case.

    Call arguments:
        inputs: Pictures of 0 to 255 of any dtype, (N, H, W, C) or (H, W, C), RGB. With one channel
            they are normalised with the means over the three; with more than three these follow in
            turn, as when a first convolution is adapted.

    Example:

    ```python
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras_resnet.Preprocessing("timm/resnet18.a1_in1k")(images)
    model = keras_resnet.ResNet18(input_tensor=x)
    ```

    Raises:
        ValueError: If there are no such weights, or an argument is out of range.
    """

    def __init__(
        self,
        weights: str,
        image_size: int | bool | None = None,
        crop: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.weights_name = weights.name if isinstance(weights, WeightsRecord) else weights
        self.images = image_format(weights)
        if image_size is not None and image_size is not False:
            check_integer("image_size", image_size)
        crop = self.images.crop if crop is None else crop
        if crop is not None and not 0 < crop <= 1:
            raise ValueError(f"`crop` must be in (0, 1]. Received: crop={crop!r}")
        self.image_size = self.images.image_size if image_size is None else image_size
        self.crop = crop

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Preprocesses pictures."""
        if _backend.is_of_tf_data(inputs):
            return self.call(inputs)  # Keras would make tensors of the backend of them.
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any) -> Any:
        if len(inputs.shape) not in (3, 4):
            raise ValueError(
                "`images` must be (N, H, W, C) or (H, W, C), with the channels last. "
                f"Received: shape {tuple(inputs.shape)}"
            )
        operations, x = _backend.image_operations(inputs), inputs
        if self.image_size:
            x = self._resized(x, operations)
        x = operations.cast(x, "float32")
        if self.images.channels == "bgr" and x.shape[-1] == 3:
            x = x[..., ::-1]
        mean, std = self._statistics(x.shape[-1])
        return (x * self.images.scale - mean) / std

    def _resized(self, x: Any, operations: Any) -> Any:
        if self.crop is not None:
            height, width = _sizes(x, operations)
            side = self._side(height, width, operations)
            top, left = (height - side) // 2, (width - side) // 2
            x = x[..., top : top + side, left : left + side, :]
        size = (self.image_size, self.image_size)
        x = operations.cast(x, "float32")
        x = operations.image.resize(
            x,
            size,
            self.images.interpolation,
            antialias=True,
            data_format="channels_last",
        )
        # A cubic filter overshoots, and pictures stop at 0 and 255.
        return operations.clip(x, 0, 255)

    def _side(self, height: Any, width: Any, operations: Any) -> Any:
        """Pixels on a side of the square that is cut out."""
        if isinstance(height, int) and isinstance(width, int):
            return max(1, round(self.crop * min(height, width)))
        shorter = operations.cast(operations.minimum(height, width), "float32")
        return operations.maximum(
            1, operations.cast(operations.round(self.crop * shorter), "int32")
        )

    def _statistics(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        mean = np.array(self.images.mean, "float32")
        std = np.array(self.images.std, "float32")
        if channels == 1:
            return mean.mean(keepdims=True), std.mean(keepdims=True)
        order = np.arange(channels) % 3
        return mean[order], std[order]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if not self.image_size:
            return tuple(input_shape)
        return (*input_shape[:-3], self.image_size, self.image_size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weights": self.weights_name,
            "image_size": self.image_size,
            "crop": self.crop,
        }


def _sizes(x: Any, operations: Any) -> tuple[Any, Any]:
    """Height and width, as numbers where they are known."""
    height, width = x.shape[-3:-1]
    return (height, width) if None not in (height, width) else tuple(operations.shape(x)[-3:-1])


def preprocess(
    images: Any,
    weights: str,
    image_size: int | bool | None = None,
    crop: float | None = None,
) -> Any:
    """Pictures as a set of weights expects them; see `keras_resnet.Preprocessing`.

    Args:
        images: Pictures of 0 to 255, (N, H, W, C) or (H, W, C), an array or a tensor. They are left
            as they are.
        weights: One of `keras_resnet.list_weights()`, or the name of a network.
        image_size: Height and width in pixels that come out; by default those of the record. False
            leaves the pictures as large as they are.
        crop: Share of the shorter side; by default that of the record.

    Returns:
        float32, (N, size, size, C) or (size, size, C).

    Raises:
        ValueError: If there are no such weights, or an argument is out of range.

    Example:

    ```python
    probabilities = model.predict(keras_resnet.preprocess(photos, "timm/resnet50.a1_in1k"))
    ```
    """
    if not _backend.is_of_tf_data(images):
        images = ops.convert_to_tensor(images)
    return Preprocessing(weights, image_size, crop)(images)


def decode_predictions(
    predictions: Any, top: int = 5, class_names: list[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """The most probable classes of each picture, by name.

    The names of the 1000 classes of ImageNet are those of keras.applications, downloaded once.

    Args:
        predictions: Probabilities, or logits, of (N, classes).
        top: How many classes of each picture.
        class_names: Names of the classes in their order, for a network that was trained on others.

    Returns:
        For each picture `(identifier, name, value)` from the most probable on; the identifier is
        ImageNet's, or the number of the class.

    Raises:
        ValueError: If the shape is another, there are not as many names, or `top` is not positive.
        DownloadError: If the names are neither in the cache nor to be had.
    """
    check_integer("top", top)
    predictions = ops.convert_to_numpy(predictions)
    count = 1000 if class_names is None else len(class_names)
    if predictions.ndim != 2 or predictions.shape[1] != count:
        raise ValueError(
            f"`predictions` must be of shape (N, {count}), as there are {count} names. "
            f"Received: shape {predictions.shape}"
        )
    if class_names is None:
        url, file, digest = _CLASS_INDEX
        index = json.loads(fetch_file(url, cache_folder() / file, digest).read_text())
        names = [tuple(index[str(number)]) for number in range(count)]
    else:
        names = [(str(number), name) for number, name in enumerate(class_names)]
    # Stable, so that of equals the first class comes first.
    order = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    return [
        [(*names[number], float(row[number])) for number in numbers]
        for row, numbers in zip(predictions, order, strict=True)
    ]
