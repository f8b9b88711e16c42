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
    "keras_tuner": "keras-tuner",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_metadata": "tensorflow-metadata",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "PyYAML",
}

# keras_resnet knows them; the pipeline computes with TensorFlow, whether they are there or not.
_OTHER_BACKENDS = frozenset(("jax", "torch"))

# Folders of installed libraries, which count by their version.
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def digest(value: Any) -> str:
    """Returns the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code(module: str) -> dict[str, str]:
    """Returns the SHA-256 of the source of `module` and of each module of the project it reaches.

    To the project of a person's own module belongs, beside this one, what lies in its folder.

    Args:
        module: Dotted name of a module; nothing comes of one that does not exist.
    """
    return {
        name: hashlib.sha256(_source_file(name).read_bytes()).hexdigest()
        for name in sorted(_reached(module))
    }


def libraries(module: str) -> dict[str, str | None]:
    """Returns the version of each library that `module` and the modules it reaches import.

    None stands for a library that is not installed.
    """
    home = _home(module.partition(".")[0])
    tops = {name.partition(".")[0] for own in _reached(module) for name in _imports(own)}
    names = {top for top in tops - sys.stdlib_module_names if not _belongs(top, home)}
    versions: dict[str, str | None] = {}
    for name in sorted(names - _OTHER_BACKENDS):
        try:
            versions[name] = metadata.version(DISTRIBUTIONS.get(name, name))
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _reached(module: str) -> set[str]:
    """Returns `module` and the modules of its project that it imports, directly or not."""
    home = _home(module.partition(".")[0])
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in found or _source_file(name) is None:
            continue
        found.add(name)
        for imported in _imports(name):
            parts = imported.split(".")
            if _belongs(parts[0], home):
                pending += [".".join(parts[: end + 1]) for end in range(len(parts))]
    return found


def forget() -> None:
    """Forgets where modules lie and what they import, as others may have taken their place."""
    for found in (_home, _belongs, _place, _source_file, _imports):
        found.cache_clear()


@functools.cache
def _home(top: str) -> Path | None:
    """Returns the folder of a person's own module; None for what counts by itself alone."""
    if top in _PROJECT:
        return None
    place = _place(top)
    if place is None or _INSTALLED & set(place.parts):
        return None
    return place.parent


@functools.cache
def _belongs(top: str, home: Path | None) -> bool:
    """Whether modules called `top` are of the project, or lie in the folder of a person's own."""
    if top in _PROJECT:
        return True
    if home is None or top in sys.stdlib_module_names:
        return False
    place = _place(top)
    return place is not None and place.parent == home and not _INSTALLED & set(place.parts)


@functools.cache
def _place(top: str) -> Path | None:
    """Returns the folder of the package `top`, or the file of the module."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location else None


@functools.cache
def _source_file(module: str) -> Path | None:
    """Returns the source of `module`, or None where there is no such module."""
    top, *rest = module.split(".")
    # Asking importlib for a submodule would import the packages above it, and with them Keras.
    place = _place(top)
    if place is None:
        return None
    if place.is_file():
        return place if not rest and place.suffix == ".py" else None
    place = Path(place, *rest)
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Returns the full names of what `module` imports anywhere; some may be no modules."""
    file = _source_file(module)
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join((*above, *filter(None, (node.module,))))
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(names - {""})
