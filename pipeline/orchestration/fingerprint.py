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
def _source_file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for the module {module!r}")
    return Path(spec.origin)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


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
            elif _is_module(name):
                parts = name.split(".")
                project.update(".".join(parts[: end + 1]) for end in range(len(parts)))
    return tuple(sorted(project)), tuple(sorted(others))
