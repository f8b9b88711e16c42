"""The modules of a person's own that a configuration names, with what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

from pipeline.components import trainer
from pipeline.config import RunConfig
from pipeline.errors import UsageError

# A specification is kept in a database, and an argument of a process is no place for a library.
_MOST_BYTES = 100_000


def beside(config: RunConfig, folder: Path) -> dict[str, str]:
    """Returns the sources of the modules that lie in `folder`, by their paths in it.

    Those that are not there are installed, and an image has to hold them.

    Args:
        config: Its components and its network may be of the person's own.
        folder: That of the configuration's file.

    Raises:
        UsageError: They are too long to travel in a specification.
    """
    named = [component.function for component in config.components]
    if trainer.CUSTOM in config.trainer.model:
        named.append(config.trainer.model)
    pending = {name.partition(trainer.CUSTOM)[0].partition(".")[0] for name in named}
    found: dict[str, str] = {}
    while pending:
        for file in _files(folder, pending.pop()):
            path = file.relative_to(folder).as_posix()
            if path not in found:
                found[path] = file.read_text(encoding="utf-8")
                pending |= _imported(found[path])
    size = sum(len(source.encode()) for source in found.values())
    if size > _MOST_BYTES:
        raise UsageError(
            f"the modules beside the configuration have {size:,} bytes, of which a specification "
            f"takes {_MOST_BYTES:,}; install them in the image, and take them out of {folder}"
        )
    return dict(sorted(found.items()))


def _files(folder: Path, module: str) -> Iterator[Path]:
    """Yields the files of a top-level module or package that lies in `folder`."""
    if (folder / f"{module}.py").is_file():
        yield folder / f"{module}.py"
    elif (folder / module / "__init__.py").is_file():
        yield from sorted((folder / module).rglob("*.py"))


def _imported(source: str) -> set[str]:
    """Returns the top-level names that a module imports; within a package all is taken anyway."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
