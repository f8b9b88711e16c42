"""Which trained weights there are, where they come from, and what images they expect."""

import difflib
import fnmatch
from dataclasses import dataclass

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageFormat:
    """What images a set of weights expects.

    A pixel of 0 to 255 becomes `(scale * pixel - mean) / std`, channel by channel.

    Args:
        image_size: Height and width in pixels that the network was trained at.
        crop: Share of the shorter side that the centre square has before it is resized; None where
            the source does not say, and the whole image is resized.
        test_image_size: Height and width that the reference accuracy was measured at.
        test_crop: The same share for that.
        interpolation: How images are resized, `"bilinear"` or `"bicubic"`.
        mean: Of the channels, in their order.
        std: Of the channels, in their order.
        scale: What pixels of 0 to 255 are multiplied with first.
        channels: Order of the channels, `"rgb"` or `"bgr"`.
    """

    image_size: int = 224
    crop: float | None = 0.875
    test_image_size: int | None = None
    test_crop: float | None = None
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    scale: float = 1 / 255
    channels: str = "rgb"


@dataclass(frozen=True)
class WeightsRecord:
    """One set of trained weights.

    Args:
        architecture: Name of the network, one of `keras_resnet.list_models()`.
        tag: What tells it from the other weights of the network: timm's name of the training.
        source: `"timm"` (huggingface.co/timm, torchvision's weights included) or `"keras"`
            (keras.applications, tf.keras).
        url: Where the file is; a hub's address is relative to the hub.
        file: Name of the file in the cache.
        licence: SPDX identifier in lower case; None where the source states none for the file.
        images: What images the network expects.
        digest: `"md5:..."` or `"sha256:..."` as the source states it; None where the server states
            it with each download.
        top1: Reference accuracy on ImageNet's validation images in percent, measured at
            `images.test_image_size`; None where the source states none.
        stride_on: Convolution of a bottleneck that has the stride, which no tensor shows.
        classes: Number of classes.
    """

    architecture: str
    tag: str
    source: str
    url: str
    file: str
    licence: str | None
    images: ImageFormat
    digest: str | None = None
    top1: float | None = None
    stride_on: str = "3x3"
    classes: int = 1000

    @property
    def name(self) -> str:
        """The name that `weights=` takes, such as `"timm/resnet50.a1_in1k"`."""
        return f"{self.source}/{self.architecture}.{self.tag}"

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return self.licence is not None and "-nc" in self.licence


def all_records() -> dict[str, WeightsRecord]:
    """The records by name."""
    from keras_resnet.weights.keras_records import KERAS_RECORDS
    from keras_resnet.weights.timm_records import TIMM_RECORDS

    return {record.name: record for record in (*TIMM_RECORDS, *KERAS_RECORDS)}


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the trained weights that match a shell pattern, sorted.

    Args:
        pattern: Matched with the name of the network, and with that of the weights.

    Example:

    ```python
    keras_resnet.list_weights("wide*")  # ["timm/wide_resnet101_2.tv2_in1k", ...]
    ```
    """
    return sorted(
        name
        for name, record in all_records().items()
        if fnmatch.fnmatch(record.architecture, pattern) or fnmatch.fnmatch(name, pattern)
    )


def default_record(architecture: str) -> WeightsRecord | None:
    """What `weights="imagenet"` means for a network.

    It is the record with the highest reference accuracy of those whose licence does not forbid
    commercial use; None where nobody has trained the network.
    """
    records = [
        record
        for record in all_records().values()
        if record.architecture == architecture and not record.non_commercial
    ]
    # Rows without a reference accuracy come last.
    return max(records, key=lambda record: record.top1 or 0.0, default=None)


def find_record(weights: str) -> WeightsRecord:
    """The record of a name, or the default record of a network.

    Args:
        weights: One of `keras_resnet.list_weights()`, or of `keras_resnet.list_models()`.

    Raises:
        ValueError: If there are no such weights.
    """
    records = all_records()
    if weights in records:
        return records[weights]
    if record := default_record(weights):
        return record
    close = difflib.get_close_matches(str(weights), records)
    perhaps = f", perhaps {' or '.join(map(repr, close))}" if close else ""
    if weights == "imagenet":
        perhaps = "; which ones 'imagenet' is depends on the network, so give its name"
    raise ValueError(
        "`weights` must be one of `keras_resnet.list_weights()`, or the name of a network that has "
        f"some there{perhaps}. Received: weights={weights!r}"
    )
