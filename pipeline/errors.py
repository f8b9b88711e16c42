"""The errors that the pipeline raises on purpose, each with the exit code it ends a command with."""

from collections.abc import Iterable


class PipelineError(Exception):
    """Work that could not be completed; the message says what was found and what to do.

    Args:
        message: One line that names the thing, what was found and what was expected.
    """

    exit_code = 1


class UsageError(PipelineError):
    """Wrong use: an unknown name, a missing file, a value that is not allowed."""

    exit_code = 2


class UsageErrors(UsageError):
    """Several of them at once, such as all that is wrong with a configuration.

    Args:
        lines: One line for each, or the only one.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__(self.lines)

    def __str__(self) -> str:
        """Returns the lines one below the other."""
        return "\n".join(self.lines)


class DataError(PipelineError):
    """Data that are not what their manifest, schema or format says they are."""


class Stopped(PipelineError):
    """Work that was asked to end, or lost what it needs, and can go on when it is started again."""

    exit_code = 75
