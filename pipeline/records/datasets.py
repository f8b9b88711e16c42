"""Reading the shards of a split with tf.data."""

from pathlib import Path

import tensorflow as tf

from pipeline.records import examples, manifest

_FEATURES = {
    examples.IMAGE: tf.io.FixedLenFeature([], tf.string),
    examples.LABEL: tf.io.FixedLenFeature([], tf.int64),
}


def encoded(root: Path, split: str) -> tf.data.Dataset:
    """Returns the examples of a split in their stored order.

    Args:
        root: The Examples artifact.
        split: Name of the split.

    Returns:
        A dataset of `(image bytes, int64 label)`, whose cardinality is known.

    Raises:
        DataError: A shard of the split does not match the manifest.
    """
    contents = manifest.load(root)
    manifest.verify(root, contents, (split,))
    chosen = contents.split(split)
    files = [str(root / shard.file) for shard in chosen.shards]

    def parse(payload: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.io.parse_single_example(payload, _FEATURES)
        return found[examples.IMAGE], found[examples.LABEL]

    dataset = tf.data.TFRecordDataset(files).map(parse)
    return dataset.apply(tf.data.experimental.assert_cardinality(chosen.examples))
