"""What a component's result depends on: its code, followed through imports, and its libraries.

Nothing is imported to find out: the sources are parsed, so that a run whose results are all in the
cache never loads TensorFlow.
"""

import ast
import functools
import hashlib
import importlib.util
import json
from importlib import metadata
from pathlib import Path
from typing import Any

_PROJECT = ("pipeline", "keras_resnet")

# Import names that differ from the name of the distribution.
_DISTRIBUTIONS = {
    "PIL": "Pillow",
    "apache_beam": "apache-beam",
    "google_crc32c": "google-crc32c",
    "sklearn": "scikit-learn",
    "tensorflow_metadata": "tensorflow-metadata",
    "yaml": "PyYAML",
}


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


def libraries(module: str) -> dict[str, str]:
    """Returns the installed version of each distribution that `module` imports, reached or own."""
    names = {library for name in code(module) for library in _imports(name)[1]}
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = metadata.version(_DISTRIBUTIONS.get(name, name))
        except metadata.PackageNotFoundError:
            continue  # of the standard library
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
