"""One labelled image as a `tf.train.Example`, under the feature names of TF-slim and TFX."""

import hashlib
import os
from dataclasses import dataclass

from pipeline.records.example_proto import example_class

IMAGE = "image/encoded"
FORMAT = "image/format"
FILENAME = "image/filename"
HEIGHT = "image/height"
WIDTH = "image/width"
LABEL = "image/class/label"
TEXT = "image/class/text"
KEY = "image/key/sha256"
GROUP = "image/group"


@dataclass(frozen=True)
class ImageExample:
    """An encoded image with its class.

    Args:
        encoded: The bytes of the image file.
        format: `"png"`, `"jpeg"`, `"gif"`, `"bmp"` or `"webp"`.
        height: Pixels.
        width: Pixels.
        label: Index of the class.
        text: Name of the class.
        filename: Where the image came from.
        group: What no split tears apart, such as a patient; empty where there is none.
    """

    encoded: bytes
    format: str
    height: int
    width: int
    label: int
    text: str
    filename: str
    group: str = ""

    @property
    def key(self) -> str:
        """The SHA-256 of the encoded image in hexadecimal: its identity and its order."""
        return hashlib.sha256(self.encoded).hexdigest()


def serialize(example: ImageExample) -> bytes:
    """Returns the example as a serialized `tf.train.Example`, the same bytes every time."""

    message = example_class()()
    feature = message.features.feature
    feature[IMAGE].bytes_list.value.append(example.encoded)
    feature[FORMAT].bytes_list.value.append(example.format.encode())
    feature[FILENAME].bytes_list.value.append(os.fsencode(example.filename))
    feature[TEXT].bytes_list.value.append(example.text.encode())
    feature[KEY].bytes_list.value.append(example.key.encode())
    feature[HEIGHT].int64_list.value.append(example.height)
    feature[WIDTH].int64_list.value.append(example.width)
    feature[LABEL].int64_list.value.append(example.label)
    if example.group:
        feature[GROUP].bytes_list.value.append(os.fsencode(example.group))
    return message.SerializeToString(deterministic=True)


def parse(payload: bytes) -> ImageExample:
    """Returns the example that `serialize` wrote."""

    feature = example_class().FromString(payload).features.feature
    return ImageExample(
        encoded=feature[IMAGE].bytes_list.value[0],
        format=feature[FORMAT].bytes_list.value[0].decode(),
        height=feature[HEIGHT].int64_list.value[0],
        width=feature[WIDTH].int64_list.value[0],
        label=feature[LABEL].int64_list.value[0],
        text=feature[TEXT].bytes_list.value[0].decode(),
        filename=os.fsdecode(feature[FILENAME].bytes_list.value[0]),
        group=os.fsdecode(feature[GROUP].bytes_list.value[0]) if GROUP in feature else "",
    )
