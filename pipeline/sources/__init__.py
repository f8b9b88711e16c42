"""Where images come from. `open_source` chooses by what `--data` looks like."""

from pathlib import Path

from pipeline.sources import digits, folder
from pipeline.sources.base import Reference, Source

__all__ = ["DIGITS", "Reference", "Source", "open_source"]

DIGITS = digits.NAME


def open_source(
    data: str,
    *,
    span: int | None = None,
    tfds_manual_dir: Path | None = None,
    tfds_data_dir: Path | None = None,
) -> Source:
    """Returns the source that `data` names.

    Args:
        data: `"digits"`, or the path of a folder: `ROOT/CLASS/IMAGE` or `ROOT/SPLIT/CLASS/IMAGE`.

    Raises:
        UsageError: There is no such source, or there are no images or too few classes in it.
    """
    return digits.source() if data == DIGITS else folder.source(Path(data))
