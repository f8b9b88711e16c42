"""Silences what TensorFlow and Beam print at their start; warnings and errors still come."""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_INFORMATION = "1"
_PATIENCE = 5.0

# TensorFlow writes these before its own log level takes effect.
_NOISE = [
    rb"^I\d{4} \d\d:\d\d:\d+\.\d+ +\d+ \S+:\d+\] ",
    rb"^WARNING: All log messages before absl::InitializeLog\(\) is called",
    rb"^To enable the following instructions: ",
    rb"GeneratorDatasetOp::Dataset will not be optimized",
    # Beam looks for Google Cloud's libraries, which nothing here needs.
    rb"apitools not found, and bigquery client libraries are not available",
    # Beam looks for a package that its inference can do without, and then blames another.
    rb"Resource module is not available for current platform, memory usage cannot be fetched",
    # Said beside every exception that TensorFlow raises, which says the same and more.
    rb"Local rendezvous is aborting with status: ",
    rb"^\t \[\[\{\{function_node ",
    # What decoders say of a damaged file, without its name; the answer has its code.
    rb"(png_io|jpeg_mem|jpeg_handle|decode_image_op|gif_io)\.cc:\d+\] ",
    rb"^(Corrupt JPEG data|Premature end of JPEG|Input file read error|Invalid SOS parameters)",
    rb"^(Inconsistent progression sequence|Warning: unknown JFIF|Unknown Adobe color transform)",
    # Of whoever trains in float16 on a CPU; `doctor` says which precision is fast.
    rb"oneDNN supports DT_\w+ only on platforms with AVX-512",
]
if not any(Path("/dev").glob("nvidia[0-9]*")):
    # Where there is a GPU, this one is no noise.
    _NOISE.append(rb"failed call to cuInit")
_IS_NOISE = re.compile(b"|".join(_NOISE))


def tensorflow() -> None:
    """Hides informational messages of TensorFlow and Beam; to be called before these are imported.

    A log level that the user set in the environment stays.
    """
    os.environ.setdefault(_LEVEL, _INFORMATION)
    # Keras would else take its backend from a file in the home directory.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="apache_beam")


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Keeps TensorFlow's start-up noise out of the standard error of this process.

    The filter is a process of its own, so that the last words of a process that dies in native
    code still come out. Where the user set TensorFlow's log level, nothing is filtered.
    """
    if _LEVEL in os.environ:
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    filtering = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE)
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)
        # A worker process that outlives us may hold the pipe open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            filtering.wait(_PATIENCE)


def _filter() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that writes to us
    for line in sys.stdin.buffer:
        if not _IS_NOISE.search(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    _filter()
