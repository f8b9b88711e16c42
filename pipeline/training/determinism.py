"""Operations that give the same result to the last bit, each time."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.framework import config as tf_config


@contextlib.contextmanager
def held(wanted: bool) -> Iterator[None]:
    """Holds TensorFlow's operations to be deterministic inside, if wanted."""
    before = tf_config.is_op_determinism_enabled()
    if not wanted or before:
        yield
        return
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        # There is no public way back, and what comes afterwards did not ask for it.
        tf_config.disable_op_determinism()
