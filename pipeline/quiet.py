"""Silences what TensorFlow and Beam print at their start; warnings and errors still come."""

import logging
import os
import warnings


def tensorflow() -> None:
    """Hides TensorFlow's informational messages; has to be called before it is imported.

    A setting that the user made in the environment stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Keras takes its backend from here, and from a file in the home directory otherwise.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="apache_beam")
