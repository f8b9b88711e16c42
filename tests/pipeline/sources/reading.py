"""Reads a whole source, as ExampleGen does."""

import pickle

from pipeline.sources import Reference, Source


def everything(source: Source) -> list[tuple[Reference, bytes]]:
    """Returns all images of `source`, of which there are as many as it says.

    Reader and parts go through pickle, as on their way to another process.
    """
    read, parts = pickle.loads(pickle.dumps((source.read, source.parts)))
    found = [pair for part in parts for pair in read(part)]
    assert len(found) == source.total
    assert all(not encoded for reference, encoded in found if reference.bad)
    assert all(reference.text in source.classes for reference, _ in found if not reference.bad)
    return found


def references(source: Source) -> list[Reference]:
    """Returns the references of all images of `source`."""
    return [reference for reference, _ in everything(source)]


def reasons(source: Source) -> dict[str, str]:
    """Returns why images cannot be used, by their names."""
    return {found.name: found.bad for found in references(source) if found.bad}
