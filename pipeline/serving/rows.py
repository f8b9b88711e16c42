"""A batch in which one bad image spoils its own row and no other, inside the graph."""

from collections.abc import Callable

import tensorflow as tf

from pipeline.records.examples import IMAGE
from pipeline.serving import decoding, headers
from pipeline.training.preprocessing import CHANNELS, Preprocessing, resize

# What a row says whose file has the header of an image and cannot be decoded.
NOT_DECODABLE = "not_decodable"
NO_EXAMPLE = "not_an_example"

Row = tuple[tf.Tensor, ...]


def images(encoded: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a batch of image files to the network's size.

    Args:
        encoded: Strings of shape (batch,).
        preprocessing: Gives the size.

    Returns:
        uint8 pixels of shape (batch, height, width, 3), black where a file is bad; and for each
        row why it is bad, the empty string where it is good.
    """
    shape = (preprocessing.height, preprocessing.width, CHANNELS)

    def one(file: tf.Tensor) -> Row:
        header = headers.read(file)
        reason = decoding.refusal(file, header)
        pixels = tf.cond(
            reason == "",
            lambda: resize(decoding.pixels(file, header), preprocessing),
            lambda: tf.zeros(shape, tf.uint8),
        )
        return tf.ensure_shape(pixels, shape), reason

    return _each(one, encoded, (tf.zeros(shape, tf.uint8), tf.constant(NOT_DECODABLE)))


def encoded_in(examples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes the image files out of serialized `tf.train.Example`s.

    Args:
        examples: Strings of shape (batch,), as ExampleGen writes them.

    Returns:
        Strings of shape (batch,), empty where there is none; and for each row why, the empty
        string where there is one.
    """

    def one(example: tf.Tensor) -> Row:
        feature = tf.io.FixedLenFeature([], tf.string)
        return tf.io.parse_single_example(example, {IMAGE: feature})[IMAGE], tf.constant("")

    return _each(one, examples, (tf.constant(""), tf.constant(NO_EXAMPLE)))


def _each(function: Callable[[tf.Tensor], Row], batch: tf.Tensor, otherwise: Row) -> Row:
    """Maps `function` over the rows of a batch in parallel; where it fails, `otherwise` stands."""
    count = tf.size(batch, tf.int64)
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), batch))
    # The one place for `ignore_errors`: the number of a row that fails is known to be missing.
    good = rows.map(
        lambda number, element: (number, *function(element)), num_parallel_calls=tf.data.AUTOTUNE
    ).ignore_errors()
    # A row behind the last one, so that there is always something to batch.
    spare = tf.data.Dataset.from_tensors((count, *otherwise))
    options = tf.data.Options()
    options.deterministic = False
    together = spare.concatenate(good).batch(count + 1).with_options(options)
    numbers, *columns = together.get_single_element()
    return tuple(
        tf.tensor_scatter_nd_update(
            tf.repeat(value[None], count + 1, axis=0), numbers[:, None], column
        )[:-1]
        for column, value in zip(columns, otherwise, strict=True)
    )
