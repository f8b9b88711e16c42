"""A manifest: a table that names the file, the class, and perhaps split and group of each image.

    path,label,split,group              {"path": "a/1.png", "label": "cat", "split": "train"}
    a/1.png,cat,train,camera 7          {"path": "gs://bucket/2.png", "label": "dog"}

One line is one image, also where a line cannot be understood, so that damage stays in its line.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from pipeline.errors import UsageError
from pipeline.sources import base, listing, uris
from pipeline.sources.base import SPLITS, Reference, Source

EXTENSIONS = (".csv", ".tsv", ".jsonl")

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Each column with the names it may have; the first that is there counts.
_COLUMNS = {
    "path": ("path", "uri", "image", "file", "filename"),
    "label": ("label", "class"),
    "split": ("split",),
    "group": ("group",),
}
_REQUIRED = ("path", "label")


@dataclass(frozen=True, slots=True)
class _Row:
    """The values of a line by their column in lower case, or why there are none."""

    line: int
    values: dict[str, Any]
    bad: str | None = None


def source(path: str) -> Source:
    """Returns the images that the manifest at `path` names.

    A relative path is relative to the manifest. A row without a split goes where the manifest puts
    its group, if that is one split.

    Args:
        path: Path or URI of a `.csv`, `.tsv` or `.jsonl` file in UTF-8, with a line of column
            names where it is no JSON.

    Raises:
        UsageError: There is no such file, or no column of paths or labels, or fewer than two
            classes, or a package is missing without which no row can be read.
    """
    header, rows = _read(path)
    columns = _columns(path, header, _REQUIRED)
    schemes = _Schemes()
    references = [_reference(path, row, columns, schemes) for row in rows]
    classes = base.class_order(reference.text for reference in references if reference.text)
    base.require_two(path, classes, f"at least two in the column {columns['label']!r}")
    _require_some(path, references, schemes)
    references, torn = _with_their_groups(references)
    notices = [f"{path}: {refusal}; its rows go to quarantine" for refusal in schemes.refused]
    if torn:
        groups = "1 group is" if len(torn) == 1 else f"{len(torn)} groups are"
        notices.append(
            f"{path}: {groups} in several splits by the column 'split', the first is {torn[0]!r}"
        )
    source = listing.source(PurePosixPath(path).stem, references, classes)
    return replace(source, notices=tuple(notices))


def unlabelled(path: str) -> list[Reference]:
    """Returns the images that the manifest at `path` names, whatever it says of their classes.

    Raises:
        UsageError: There is no such file, or no column of paths, or a package is missing without
            which no row can be read.
    """
    header, rows = _read(path)
    only = {"path": _columns(path, header, ("path",))["path"]}
    schemes = _Schemes()
    references = [_reference(path, row, only, schemes) for row in rows]
    _require_some(path, references, schemes)
    return references


def _read(path: str) -> tuple[list[str], list[_Row]]:
    """Returns the names of the columns, and the rows."""
    try:
        content = uris.read(path)
    except uris.BadFileError as error:
        raise UsageError(f"data {path!r}: no such file, or it cannot be read ({error})") from None
    # What is no UTF-8 becomes lone surrogates, which make their own line bad.
    lines = io.StringIO(content.decode("utf-8-sig", errors="surrogateescape"), newline=None)
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _DELIMITERS:
        return _table(lines, _DELIMITERS[suffix])
    rows = list(_objects(lines))
    return list(dict.fromkeys(column for row in rows for column in row.values)), rows


def _require_some(path: str, references: list[Reference], schemes: "_Schemes") -> None:
    if schemes.refused and all(reference.bad for reference in references):
        raise UsageError(f"data {path!r}: no row can be read: {schemes.refused[0]}")


class _Schemes:
    """Which schemes of URIs can be read; `refused` says what has to be installed for more."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._known: dict[str, bool] = {}

    def __contains__(self, scheme: str) -> bool:
        if scheme not in self._known:
            try:
                self._known[scheme] = uris.has_system(scheme)
            except UsageError as error:
                self._known[scheme] = False
                self.refused.append(str(error))
        return self._known[scheme]


def _with_their_groups(references: list[Reference]) -> tuple[list[Reference], list[str]]:
    """Returns the references, those without a split in that of their group, and torn groups."""
    splits: dict[str, set[str]] = {}
    for reference in references:
        if reference.group and reference.split:
            splits.setdefault(reference.group, set()).add(reference.split)
    only = {group: min(found) for group, found in splits.items() if len(found) == 1}
    together = [
        replace(reference, split=only[reference.group])
        if reference.group in only and not reference.split
        else reference
        for reference in references
    ]
    return together, [group for group, found in splits.items() if len(found) > 1]


def _columns(path: str, found: list[str], required: Sequence[str]) -> dict[str, str]:
    """Returns the column that each of `_COLUMNS` is called in this manifest."""
    columns = {
        name: next((alias for alias in aliases if alias in found), None)
        for name, aliases in _COLUMNS.items()
    }
    for name in required:
        if columns[name] is None:
            shown = ", ".join(ascii(column) for column in found[:10]) or "none"
            raise UsageError(
                f"data {path!r}: no column {' or '.join(map(repr, _COLUMNS[name]))}; "
                f"found the columns {shown}"
            )
    return {name: column for name, column in columns.items() if column is not None}


def _table(lines: io.StringIO, delimiter: str) -> tuple[list[str], list[_Row]]:
    """Returns the names of the columns, and the rows."""
    header: list[str] | None = None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = _fields(line, delimiter)
        if header is None:
            header = [_name(field) for field in fields or ()]
        elif fields is None or len(fields) != len(header):
            rows.append(_Row(number, {}, "malformed_row"))
        else:
            # Of columns of one name, the first counts.
            pairs = zip(reversed(header), reversed(fields), strict=True)
            rows.append(_Row(number, dict(pairs)))
    return header or [], rows


def _fields(line: str, delimiter: str) -> list[str] | None:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error:
        return None


def _objects(lines: io.StringIO) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield _Row(number, {_name(key): field for key, field in value.items()})
        else:
            yield _Row(number, {}, "not_json")


def _name(column: str) -> str:
    return column.strip().lower()


def _reference(path: str, row: _Row, columns: dict[str, str], schemes: _Schemes) -> Reference:
    here = f"{path}:{row.line}"
    if row.bad:
        return Reference(here, "", bad=row.bad)
    values = {name: _text(row.values.get(column)) for name, column in columns.items()}
    if None in values.values():
        return Reference(here, "", bad="malformed_row")
    if any(not _is_unicode(value) for value in values.values()):
        return Reference(here, "", bad="not_utf8")
    label, split = values.get("label", ""), values.get("split", "").lower()
    if not values["path"]:
        return Reference(here, label, bad="no_path")
    name = uris.join(uris.parent(path), values["path"])
    if uris.is_uri(name) and name.partition("://")[0] not in schemes:
        return Reference(name, label, bad="unknown_scheme")
    if not label and "label" in columns:
        return Reference(name, "", bad="no_label")
    if split and split not in SPLITS:
        return Reference(name, label, bad="unknown_split")
    return Reference(name, label, SPLITS.get(split), values.get("group") or None)


def _text(value: Any) -> str | None:
    """Returns a value as text, empty where there is none; None where it is neither."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    return str(value) if type(value) is int else None  # True is no number here


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
