"""The strategies by name."""

import functools
import logging

import tensorflow as tf

MIRRORED = "mirrored"
ONE_DEVICE = "one_device"


@functools.cache
def make(name: str) -> tf.distribute.Strategy:
    """Returns the strategy called `name`, the same object every time.

    TensorFlow keeps the shapes of collective operations for as long as the process lives, under
    numbers that every strategy counts from the same start: with a second strategy over the same
    devices, synchronised batch normalisation fails with a shape mismatch.

    Args:
        name: `"mirrored"`: a replica on every visible GPU, or on every logical CPU device where
            there is none; `"one_device"`: the first of these.
    """
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if name == ONE_DEVICE:
        return tf.distribute.OneDeviceStrategy(devices[0])
    if kind == "CPU":
        # The strategy warns that it will not use NCCL; on CPUs there is nothing else to use.
        logging.getLogger("tensorflow").addFilter(_is_not_about_nccl)
    return tf.distribute.MirroredStrategy(devices)


def _is_not_about_nccl(record: logging.LogRecord) -> bool:
    return "not using nccl allreduce" not in record.getMessage()
