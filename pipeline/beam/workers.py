"""The worker processes of this machine: started once for a component, missed when dead."""

import os
import threading
import time
from typing import Any

# A worker that has nothing to do for so long ends.
_IDLE_SECONDS = 15
_POLL = 1.0
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # the GPU belongs to the training
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "OMP_NUM_THREADS": "1",
}

_lock = threading.Lock()
_pools: dict[int, Any] = {}


def start(number: int = 1) -> Any:
    """Returns a new executor with `number` processes."""
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(
        number,
        timeout=_IDLE_SECONDS,
        env=_ENVIRONMENT,
        initializer=_end_with,
        initargs=(os.getpid(),),
    )


def shared(number: int) -> Any:
    """Returns the executor with `number` processes, the same one until `stop`."""
    with _lock:
        if number not in _pools:
            _pools[number] = start(number)
        return _pools[number]


def warm(number: int) -> None:
    """Lets `number` processes start and load TensorFlow, while this one does something else."""
    if number > 1:
        for _ in range(number):
            shared(number).submit(_load)


def stop() -> None:
    """Ends the shared processes at once, whatever they do."""
    with _lock:
        while _pools:
            _pools.popitem()[1].shutdown(kill_workers=True)


def _end_with(parent: int) -> None:
    """Ends this worker when the process that began it is gone.

    One that was killed while it held loky's lock would leave workers that wait for it for ever.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


def _load() -> None:
    import tensorflow  # noqa: F401  four seconds
