"""What the packages import is declared, and what is declared for each extra suffices."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

from pipeline.orchestration.fingerprint import DISTRIBUTIONS

ROOT = Path(__file__).parents[1]

# The library takes whichever backend is there.
_BACKENDS = {"tensorflow", "jax", "torch"}


def declared(*extras: str) -> set[str]:
    """Returns the lower-case names of the distributions that an installation brings."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += parser["options.extras_require"][extra].splitlines()
    return {re.split(r"[<>=\[;! ]", line)[0].lower() for line in lines if line.strip()}


def imported(package: str) -> dict[str, set[str]]:
    """Returns the distributions that a package imports anywhere, with the files that do so."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names:
                    own = DISTRIBUTIONS.get(top, top).lower()
                    found.setdefault(own, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_the_library_imports_what_is_declared_and_a_backend_in_one_file_only():
    found = imported("keras_resnet")
    for backend in _BACKENDS:
        assert found.pop(backend, set()) <= {"keras_resnet/_backend.py"}
    assert set(found) - {"keras_resnet"} <= declared()


def test_the_pipeline_imports_what_is_declared():
    found = imported("pipeline")
    assert "kfp" in declared("kfp")
    assert found.pop("kfp") == {"pipeline/kubeflow/specification.py"}
    assert set(found) - {"pipeline", "keras_resnet", "keras", "numpy"} <= declared("pipeline")


def test_the_studies_import_what_is_declared_and_neither_a_backend_nor_the_pipeline():
    own = {"studies", "keras_resnet", "keras", "numpy"}
    assert set(imported("studies")) - own <= declared("studies")


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "docs"])
def test_tests_and_scripts_import_what_is_declared(folder):
    own = {"tests", "pipeline", "keras_resnet", "studies", "benchmarks", "keras"}
    peers = {"torch", "timm", "keras_hub"}
    assert set(imported(folder)) - own - peers <= declared("pipeline", "serving", "test")


def test_the_library_does_not_know_the_pipeline():
    assert "pipeline" not in imported("keras_resnet")


def test_known_breaks_are_bounded_and_undeclared_needs_are_declared():
    text = (ROOT / "setup.cfg").read_text()
    assert "protobuf>=6.31.1,<7" in text
    assert {"importlib_resources", "google-crc32c"} <= declared("pipeline")
    assert {"tensorflow-datasets", "keras-tuner", "tensorboard"} <= declared("pipeline")
