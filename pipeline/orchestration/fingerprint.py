"""What a component's result depends on: its code, followed through imports, and its libraries.

Nothing is imported to find out: the sources are parsed, so that a run whose results are all in the
cache never loads TensorFlow.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PROJECT = ("pipeline", "keras_resnet")

# Import names that differ from the name of the distribution.
DISTRIBUTIONS = {
    "PIL": "Pillow",
    "apache_beam": "apache-beam",
    "google": "protobuf",
    "google_crc32c": "google-crc32c",
    "grpc": "grpcio",
    "imagehash": "ImageHash",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_metadata": "tensorflow-metadata",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "PyYAML",
}

# keras_resnet knows them; the pipeline computes with TensorFlow, whether they are there or not.
_OTHER_BACKENDS = frozenset(("jax", "torch"))


def digest(value: Any) -> str:
    """Returns the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code(module: str) -> dict[str, str]:
    """Returns the SHA-256 of the source of `module` and of each project module it reaches.

    Args:
        module: Dotted name of a module of the project.
    """
    sources, pending = {}, [module]
    while pending:
        name = pending.pop()
        if name not in sources:
            sources[name] = hashlib.sha256(_source_file(name).read_bytes()).hexdigest()
            pending += [found for found in _imports(name)[0] if found not in sources]
    return dict(sorted(sources.items()))


def libraries(module: str) -> dict[str, str | None]:
    """Returns the version of each library that `module` and the modules it reaches import.

    None stands for a library that is not installed.
    """
    names = {library for name in code(module) for library in _imports(name)[1]}
    versions: dict[str, str | None] = {}
    for name in sorted(names - sys.stdlib_module_names - _OTHER_BACKENDS):
        try:
            versions[name] = metadata.version(DISTRIBUTIONS.get(name, name))
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


@functools.cache
def _source_file(module: str) -> Path | None:
    """Returns the source of `module`, or None where there is no such module."""
    top, *rest = module.split(".")
    # Asking importlib for a submodule would import the packages above it, and with them Keras.
    (folder,) = importlib.util.find_spec(top).submodule_search_locations
    place = Path(folder, *rest)
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _imports(module: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the project modules and the other top-level names that `module` imports anywhere."""
    project: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(_source_file(module).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top not in _PROJECT:
                others.add(top)
            elif _source_file(name):
                parts = name.split(".")
                project.update(".".join(parts[: end + 1]) for end in range(len(parts)))
    return tuple(sorted(project)), tuple(sorted(others))
