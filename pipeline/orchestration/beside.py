"""Modules of a person's own, which lie beside the configuration that names them."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.orchestration import fingerprint

_PROJECT = ("pipeline", "keras_resnet")
# A folder of virtual environments, which may lie beside the configuration.
_INSTALLED = "site-packages"


class _Beside:
    """The folder of the configuration, in which modules are sought, and what was loaded from it.

    Where another configuration follows in the same process, or a module was edited, what was loaded
    before does not pass for what lies there now.
    """

    folder: Path | None = None
    added: bool = False
    # Module to the digest of its source.
    loaded: ClassVar[dict[str, str]] = {}


def seek_in(folder: Path) -> None:
    """Has modules sought in `folder` too, after everywhere else, until another follows."""
    changed = (_digest(name) != digest for name, digest in _Beside.loaded.items())
    if folder != _Beside.folder or any(changed):
        for name in _Beside.loaded:
            sys.modules.pop(name, None)
        _Beside.loaded.clear()
        importlib.invalidate_caches()
        fingerprint.forget()
    if folder != _Beside.folder:
        if _Beside.added and str(_Beside.folder) in sys.path:
            sys.path.remove(str(_Beside.folder))
        _Beside.folder, _Beside.added = folder, str(folder) not in sys.path
        if _Beside.added:
            sys.path.append(str(folder))


def load(name: str) -> ModuleType:
    """Returns a module, which is imported where it is not yet.

    Raises:
        Exception: Whatever it raises while it is imported.
    """
    before = set(sys.modules)
    try:
        return importlib.import_module(name)
    finally:
        for new in set(sys.modules) - before:
            if _is_own(new):
                _Beside.loaded[new] = _digest(new)


def _is_own(name: str) -> bool:
    """Whether a module that is loaded lies beside the configuration and belongs to it."""
    file = Path(getattr(sys.modules[name], "__file__", None) or "")
    return (
        _Beside.folder in file.parents
        and name.partition(".")[0] not in _PROJECT
        and _INSTALLED not in file.parts
    )


def _digest(name: str) -> str | None:
    """Returns the SHA-256 of the source of a module that is loaded, or None where it is gone."""
    file = Path(getattr(sys.modules.get(name), "__file__", None) or "")
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def require_not_hidden(name: str, folder: Path | None) -> None:
    """Refuses a module of the configuration's folder in whose place another would be loaded.

    Args:
        name: Its dotted name.
        folder: That of the configuration; None where it has none.

    Raises:
        UsageError: Another of the same name is found before it.
    """
    top = name.partition(".")[0]
    if folder is None:
        return
    here = [folder / f"{top}.py", folder / top / "__init__.py"]
    meant = next((path for path in here if path.is_file()), None)
    spec = importlib.util.find_spec(top) if meant else None
    if spec and spec.origin and Path(spec.origin).resolve() != meant.resolve():
        raise UsageError(f"{meant} is hidden by another module {top!r}, {spec.origin}; rename it")
