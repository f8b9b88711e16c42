"""The strategies by name."""

import logging

import tensorflow as tf

MIRRORED = "mirrored"
ONE_DEVICE = "one_device"


def make(name: str) -> tf.distribute.Strategy:
    """Returns the strategy called `name`.

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
