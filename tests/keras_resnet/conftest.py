"""What of the library's tests runs on which backend."""

import os

# Arithmetic of configurations, tables and downloads: these compute nothing on a backend, or nothing
# that the tests of layers, blocks and whole networks do not compute on each of them. CI runs the
# tests on TensorFlow, then on JAX, so once they run there as well.
_OF_NO_BACKEND = [
    "analysis/test_counting.py",
    "test_config.py",
    "weights/test_download.py",
    "weights/test_records.py",
]
collect_ignore = [] if os.environ["KERAS_BACKEND"] == "tensorflow" else _OF_NO_BACKEND
