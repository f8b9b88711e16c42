"""Starting: processes from their start to their end, and networks that are built."""

import json
import subprocess
import sys

from benchmarks.plan import Turn

_OWN_IMPORT = """
import json, time
import keras
wall, cpu = time.perf_counter(), time.process_time()
import keras_resnet
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


class Python:
    """A Python process from its start to its end.

    Args:
        arguments: Of the interpreter.
    """

    def __init__(self, arguments: list[str]):
        self._command = [sys.executable, *arguments]

    def run(self) -> int:
        subprocess.run(self._command, check=True, stdout=subprocess.DEVNULL)
        return 1


class OwnImport:
    """What an import of the package takes, in a new process that has imported Keras."""

    def run(self) -> Turn:
        command = [sys.executable, "-c", _OWN_IMPORT]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        wall, cpu = json.loads(done.stdout.splitlines()[-1])
        return Turn(1, wall=wall, cpu=cpu)


class Ours:
    """A network of this package that is built.

    Args:
        name: Of `keras_resnet.list_models()`.
    """

    def __init__(self, name: str):
        import keras_resnet

        self._make, self._name = keras_resnet.create, name

    def run(self) -> int:
        self._make(self._name)
        return 1


class Applications:
    """A network of keras.applications that is built.

    Args:
        name: Of the function.
    """

    def __init__(self, name: str):
        import keras

        self._make = getattr(keras.applications, name)

    def run(self) -> int:
        self._make(weights=None)
        return 1
