"""Where images come from. `open_source` chooses by what `--data` looks like."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.errors import UsageError
from pipeline.sources import digits, folder, manifest_file, records, spans, tfrecords, uris
from pipeline.sources import tfds as tfds_source
from pipeline.sources.base import Reference, Source

__all__ = ["DIGITS", "Reference", "Source", "fetch", "open_source"]

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
        data: One of

            - `"digits"`, the embedded data;
            - a folder `ROOT/CLASS/IMAGE` or `ROOT/SPLIT/CLASS/IMAGE`;
            - a manifest, a `.csv`, `.tsv` or `.jsonl` file; see `manifest_file`;
            - TFRecord files, as one file, a pattern such as `data/train-*`, or their folder;
            - `tfds:NAME`, `tfds:NAME/CONFIG:VERSION` or `tfds:FOLDER`.

            What is a path may be a URI of any of Beam's file systems, such as `gs://…`, or a
            `file://` URI, and may hold `{SPAN}` and `{VERSION}`; see `spans`.
        span: The span to read; None for the latest.
        tfds_manual_dir: Where files lie that TFDS would else download, under their plain names.
        tfds_data_dir: Where TFDS keeps prepared data sets; None for its own place.

    Raises:
        UsageError: There is no such source, or there are no images or too few classes in it.
        DataError: TFDS cannot prepare the data set.
    """
    prefix = tfds_source.PREFIX if data.startswith(tfds_source.PREFIX) else ""
    found = spans.resolve(uris.local(data.removeprefix(prefix)), span)
    if prefix:
        source = tfds_source.source(
            prefix + found.path, manual_dir=tfds_manual_dir, data_dir=tfds_data_dir
        )
    elif found.path == DIGITS:
        source = digits.source()
    else:
        source = replace(_of_path(found.path), location=uris.plain(found.path))
    return replace(source, name=found.name or source.name, span=found.span, version=found.version)


def fetch(data: str, name: str, *, tfds_data_dir: Path | None = None) -> bytes | None:
    """Returns the bytes of one image, for a person to look at.

    Args:
        data: What `open_source` took.
        name: The name of the image's `Reference`.
        tfds_data_dir: Where TFDS keeps prepared data sets; None for its own place.

    Returns:
        The image file as the source has it; None where it is not there any more, or names no file
        of its own, as a line of a manifest that could not be read.

    Raises:
        UsageError: There is no such data set.
        DataError: A remote file system fails.
    """
    if data.startswith(tfds_source.PREFIX):
        return tfds_source.fetch(data, name, data_dir=tfds_data_dir)
    if data == DIGITS:
        return digits.fetch(name)
    path, mark, number = name.rpartition("#")
    try:
        if mark and number.isdecimal() and not uris.is_file(name):
            return records.fetch(path, int(number), records.Layout())
        return uris.read(name)
    except uris.BadFileError:
        return None


def _of_path(data: str) -> Source:
    """Returns the source that a path or URI names."""
    # "./photos/" and "photos" are one folder.
    path = data if uris.is_uri(data) else str(Path(data))
    if uris.has_wildcards(path):
        if paths := uris.matching(path):
            return tfrecords.of_files(path, paths)
        raise UsageError(f"data {data!r}: no file matches this pattern")
    if PurePosixPath(path).suffix.lower() in manifest_file.EXTENSIONS and not uris.is_folder(path):
        return manifest_file.source(path)
    if uris.is_file(path):
        if tfrecords.is_named_so(path.rpartition("/")[2]):
            return tfrecords.of_files(path, [path])
        raise UsageError(
            f"data {data!r}: a file; expected a folder of images, a manifest "
            f"({', '.join(manifest_file.EXTENSIONS)}) or TFRecord files"
        )
    is_uri = uris.is_uri(path)
    files = uris.files_below(path) if is_uri or uris.is_folder(path) else None
    if files is None or (is_uri and not files):
        raise UsageError(
            f"data {data!r}: no such folder or file; expected {DIGITS!r}, a folder CLASS/IMAGE, a "
            "manifest, TFRecord files or tfds:NAME"
        )
    if tfrecords.among(files):
        return tfrecords.of_folder(path, files)
    return folder.source(path, files)
