"""The versions of a model on disk, by TF Serving's rules. Needs no TensorFlow."""

from pathlib import Path

from pipeline.errors import UsageError

SAVED_MODEL = "saved_model.pb"


def versions(base: Path) -> list[int]:
    """Returns the version numbers below `base`, lowest first.

    As in TF Serving, directories whose names are no whole numbers are none, and a number counts
    whether or not its directory is complete.
    """
    if not base.is_dir():
        return []
    names = (path.name for path in base.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def resolve(model: Path) -> Path:
    """Returns the directory of the SavedModel that `model` means.

    Args:
        model: A directory with a `saved_model.pb`, or one of version directories, of which the
            highest that is complete is taken.

    Raises:
        UsageError: There is none.
    """
    if not model.is_dir():
        raise UsageError(f"model {str(model)!r}: no such directory; `run` makes one")
    for candidate in (model, *(model / str(number) for number in reversed(versions(model)))):
        if (candidate / SAVED_MODEL).is_file():
            return candidate
    raise UsageError(
        f"model {str(model)!r}: found no {SAVED_MODEL} in it, nor in a directory of it that is "
        "named by a version number"
    )
