"""The input of the training loop: full batches without end for training, every example once for
evaluation."""

import tensorflow as tf

from pipeline.training.preprocessing import Preprocessing, decode, normalize, resize

_AUTOTUNE = tf.data.AUTOTUNE


def _pixels(dataset: tf.data.Dataset, preprocessing: Preprocessing) -> tf.data.Dataset:
    """Decodes and scales once; the result is kept in memory from then on."""
    return dataset.map(
        lambda encoded, label: (resize(decode(encoded), preprocessing), label),
        num_parallel_calls=_AUTOTUNE,
        deterministic=True,
    ).cache()


def _finish(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Lets a strategy split batches, and nothing else: the files are not shared out."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.prefetch(_AUTOTUNE).with_options(options)


def training_batches(
    dataset: tf.data.Dataset,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    random_shift: int = 0,
    random_flip: bool = False,
) -> tf.data.Dataset:
    """Returns an endless dataset of full, shuffled, augmented batches.

    The stream runs across the ends of epochs: no batch is padded and no example is left out.

    Args:
        dataset: `(image bytes, label)`, of known cardinality.
        preprocessing: What the network expects.
        batch_size: Examples in a batch, of all replicas together.
        seed: Determines order and augmentation.
        random_shift: Images are shifted by up to so many pixels each way; what comes in from
            outside is the mirror image.
        random_flip: Whether images are mirrored left to right, each with probability 1/2.

    Returns:
        A dataset of `(float32 (batch, height, width, 3), int64 (batch,))`.
    """

    def augment(index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]):
        image, label = example
        if random_shift:
            border = [[random_shift] * 2, [random_shift] * 2, [0, 0]]
            image = tf.image.stateless_random_crop(
                tf.pad(image, border, "SYMMETRIC"),
                (preprocessing.height, preprocessing.width, 3),
                seed=tf.stack([tf.constant(seed, tf.int64), index]),
            )
        if random_flip:
            image = tf.image.stateless_random_flip_left_right(
                image, seed=tf.stack([tf.constant(seed + 1, tf.int64), index])
            )
        return normalize(image, preprocessing), label

    examples = int(dataset.cardinality())
    return _finish(
        _pixels(dataset, preprocessing)
        .shuffle(examples, seed=seed, reshuffle_each_iteration=True)
        .repeat()
        .enumerate()
        .map(augment, num_parallel_calls=_AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
    )


def evaluation_batches(
    dataset: tf.data.Dataset, preprocessing: Preprocessing, batch_size: int
) -> tf.data.Dataset:
    """Returns every example once, in order, the last batch filled up with examples of weight 0.

    A ragged last batch can crash batch normalisation on oneDNN under a strategy.

    Args:
        dataset: `(image bytes, label)`, of known cardinality.
        preprocessing: What the network expects.
        batch_size: Examples in a batch, of all replicas together.

    Returns:
        A dataset of `(float32 (batch, height, width, 3), int64 (batch,), float32 (batch,))`, the
        last being the weights.
    """
    padding = -int(dataset.cardinality()) % batch_size
    pixels = _pixels(dataset, preprocessing).map(
        lambda image, label: (normalize(image, preprocessing), label, 1.0)
    )
    fill = pixels.take(1).repeat(padding).map(lambda image, label, _: (image, label, 0.0))
    return _finish(pixels.concatenate(fill).batch(batch_size, drop_remainder=True))
