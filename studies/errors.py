"""What ends a command on purpose, each with its exit code."""


class StudyError(Exception):
    """Work that could not be completed; the message says what was found and what to do."""

    exit_code = 1


class UsageError(StudyError):
    """Wrong use: an unknown study, a missing file, a value that is not allowed."""

    exit_code = 2


class Stopped(StudyError):
    """Work that was asked to end; the same command goes on where it was."""

    exit_code = 75
