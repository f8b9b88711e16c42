"""Finds pipeline roots, runs and executions by what a person calls them."""

from pathlib import Path

from pipeline.errors import UsageError
from pipeline.orchestration.history import Run
from pipeline.orchestration.store import Store


def stores(folder: Path) -> list[Store]:
    """Returns the stores of `folder`, a pipeline root or a folder of these such as `runs`.

    Raises:
        UsageError: Nothing ran there.
    """
    found = [Store(path) for path in (folder, *sorted(folder.glob("*"))) if path.is_dir()]
    found = [store for store in found if store.exists]
    if not found:
        raise UsageError(
            f"root {str(folder)!r}: nothing ran there; expected a folder such as runs, or "
            "runs/digits; `run` makes one"
        )
    return found


def store(folder: Path, name: str | None) -> Store:
    """Returns the store of one pipeline.

    Args:
        folder: A pipeline root or a folder of these.
        name: The pipeline; None where there is only one.

    Raises:
        UsageError: There is none of that name, or there are several.
    """
    found = {one.root.name: one for one in stores(folder)}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None:
        raise UsageError(f"root {str(folder)!r}: several ran there; name one: {', '.join(found)}")
    if name not in found:
        raise UsageError(f"run {name!r}: expected one of {', '.join(found)}")
    return found[name]


def run(folder: Path, said: str) -> tuple[Store, Run]:
    """Returns the run that a person means, and its store.

    Args:
        folder: A pipeline root or a folder of these.
        said: `NAME/NUMBER`; `NUMBER` where there is only one pipeline; `NAME` for its last run.

    Raises:
        UsageError: There is none.
    """
    name, _, number = said.rpartition("/")
    if not number.isdecimal():
        name, number = said, ""
    found = store(folder, name or None)
    if number:
        return found, found.run(int(number))
    last = found.runs(last=1)
    if not last:
        raise UsageError(f"run {said!r}: {found.root} has none yet")
    return found, last[0]


def artifact(path: Path) -> tuple[Store, int] | None:
    """Returns the store and the number of the execution that wrote the directory `path`, or None.

    Args:
        path: An artifact such as `runs/digits/Trainer/model/5`, or something in it.
    """
    place = path.absolute()
    for folder in (place, *place.parents):
        if folder.name.isdecimal() and len(folder.parents) > 3:
            root = folder.parents[2]
            if (found := Store(root)).exists and found.executions([int(folder.name)]):
                return found, int(folder.name)
    return None
