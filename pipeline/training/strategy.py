"""The strategies by name, and what a process has to know of the cluster it trains in."""

import functools
import logging

import tensorflow as tf

from pipeline.errors import UsageError

MIRRORED = "mirrored"
ONE_DEVICE = "one_device"
MULTI_WORKER = "multi_worker"


@functools.cache
def make(name: str) -> tf.distribute.Strategy:
    """Returns the strategy called `name`, the same object every time.

    TensorFlow keeps the shapes of collective operations for as long as the process lives, under
    numbers that every strategy counts from the same start: with a second strategy over the same
    devices, synchronised batch normalisation fails with a shape mismatch.

    Args:
        name: `"mirrored"`: a replica on every visible GPU, or on every logical CPU device where
            there is none; `"one_device"`: the first of these; `"multi_worker"`: those of all
            processes that the environment variable TF_CONFIG names.

    Raises:
        UsageError: TensorFlow has been used in this process already, which is too late for
            `"multi_worker"`.
    """
    if name == MULTI_WORKER:
        return _multi_worker()
    kind = "GPU" if has_gpu() else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if name == ONE_DEVICE:
        return tf.distribute.OneDeviceStrategy(devices[0])
    if kind == "CPU":
        # The strategy warns that it will not use NCCL; on CPUs there is nothing else to use.
        logging.getLogger("tensorflow").addFilter(_is_not_about_nccl)
    return tf.distribute.MirroredStrategy(devices)


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    return strategy.num_replicas_in_sync // len(strategy.extended.worker_devices)


def worker(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of this process among them; 0 is the chief, which writes."""
    if workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    # Where the cluster has a task of type chief, it stands in front of the workers.
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return 0 if resolver.task_type == "chief" else chiefs + resolver.task_id


class Agreement:
    """Lets all processes act on what one of them knows.

    Args:
        strategy: What they train under.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._alone = workers(strategy) == 1
        self._sum = tf.function(self._summed)

    def total(self, value: int) -> int:
        """Returns the sum of what the processes give; all of them have to call this."""
        if self._alone:
            return value
        local = len(self._strategy.extended.worker_devices)
        return int(self._sum(tf.constant(value, tf.int64))) // local

    def _summed(self, value: tf.Tensor) -> tf.Tensor:
        values = self._strategy.run(lambda: tf.identity(value))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)


def _multi_worker() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UsageError(
            "trainer.strategy 'multi_worker': TensorFlow has been used in this process already; "
            f"it needs one of its own ({error})"
        ) from None


def _is_not_about_nccl(record: logging.LogRecord) -> bool:
    return "not using nccl allreduce" not in record.getMessage()
