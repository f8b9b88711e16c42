"""Has TensorFlow Datasets (TFDS) prepare a data set: at most once, without a network if need be."""

import contextlib
import io
import logging
import shutil
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.sources import uris

_log = logging.getLogger(__name__)

_INFO = "dataset_info.json"
_STAGING = ".preparing"
# Seconds for a connection and for the first answer; TFDS itself would try for minutes.
_PATIENCE = (5, 10)


@dataclass(frozen=True)
class _Manual:
    """Files that were put somewhere by hand.

    Args:
        folder: Where.
        known: What TFDS knows of the file behind each URL, as it was found here.
        notices: Names each file that is another than TFDS expects.
    """

    folder: Path
    known: dict[str, Any]
    notices: tuple[str, ...]


def prepared(
    name: str, manual_dir: Path | None = None, data_dir: Path | None = None
) -> tuple[str, tuple[str, ...]]:
    """Returns the folder of a data set, which is prepared where it is not yet, and notices.

    Args:
        name: What `tfds.builder` takes.
        manual_dir: Where files lie that TFDS would else download, under their plain names. They
            are taken as they are; a notice names each that TFDS would refuse.
        data_dir: Where TFDS keeps prepared data sets; None for its own place.

    Raises:
        UsageError: There is no such data set or folder.
        DataError: It cannot be prepared; where a file is missing, it is named.
    """
    if manual_dir is not None and not manual_dir.is_dir():
        raise UsageError(f"tfds_manual_dir {str(manual_dir)!r}: no such folder")
    builder = _builder(name, data_dir)
    downloads = Path(data_dir or builder.data_dir_root).expanduser() / "downloads"
    manual = _manual(builder, manual_dir or downloads / "manual")
    if not _is_prepared(builder):
        _prepare(name, builder, downloads, manual)
    return str(builder.data_dir), manual.notices


def where(name: str, data_dir: Path | None = None) -> str | None:
    """Returns the folder of a data set, or None where it is not prepared.

    Raises:
        UsageError: There is no such data set.
    """
    builder = _builder(name, data_dir)
    return str(builder.data_dir) if _is_prepared(builder) else None


def _is_prepared(builder: Any) -> bool:
    return Path(builder.data_dir, _INFO).is_file()


def _builder(name: str, data_dir: Path | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        with _quiet():
            return tfds.builder(name, data_dir=data_dir and str(data_dir.expanduser()))
    except tfds.core.DatasetNotFoundError:
        raise UsageError(
            f"data 'tfds:{name}': TensorFlow Datasets knows no such data set"
        ) from None
    # Names, configurations and versions that there are not come as errors of many kinds.
    except Exception as error:
        raise UsageError(f"data 'tfds:{name}': {uris.one_line(error)}") from error


def _manual(builder: Any, folder: Path) -> _Manual:
    known, notices = {}, []
    for url, expected in (type(builder).url_infos or {}).items():
        name = expected.filename or _file_name(url)
        path = folder / name
        if not path.is_file():
            continue
        size, found = path.stat().st_size, files.sha256_file(path)
        known[url] = replace(expected, size=size, checksum=found, filename=name)
        if (size, found) != (int(expected.size), expected.checksum):
            notices.append(
                f"{path}: sha256 {found} of {size} bytes, where TFDS has registered "
                f"{expected.checksum} of {int(expected.size)} bytes; taken, since it was put "
                "there by hand"
            )
    return _Manual(folder, known, tuple(notices))


def _file_name(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlparse(url).path.rpartition("/")[2])


def _prepare(name: str, builder: Any, downloads: Path, manual: _Manual) -> None:
    """Prepares a data set beside its place and moves it there when it is complete."""
    root = downloads.parent
    files.require_writable(root, "tfds_data_dir")
    with files.locked(root / f"{_STAGING}.lock"):
        if _is_prepared(builder):
            return  # by somebody else, while we waited
        staging = root / _STAGING
        shutil.rmtree(staging, ignore_errors=True)  # what a process that was killed has left
        try:
            _log.info("preparing tfds:%s in %s; this happens once", name, builder.data_dir)
            staged = _builder(name, staging)
            _download_and_prepare(name, staged, downloads, staging / "extracted", manual)
            files.publish_directory(Path(staged.data_dir), Path(builder.data_dir))
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _download_and_prepare(
    name: str, builder: Any, downloads: Path, extracted: Path, manual: _Manual
) -> None:
    import tensorflow_datasets as tfds

    _watch_downloads(name, builder, manual)
    config = tfds.download.DownloadConfig(
        # A place of its own: TFDS would take what it once unpacked from a file of the same name.
        extract_dir=extracted,
        manual_dir=manual.folder,
        try_download_gcs=False,
    )
    try:
        with _quiet():
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except PipelineError:
        raise
    # The code of a data set may raise anything.
    except Exception as error:
        raise DataError(f"tfds:{name}: cannot be prepared: {uris.one_line(error)}") from error


def _watch_downloads(name: str, builder: Any, manual: _Manual) -> None:
    """Has the builder take the files that lie there, and give up at once without a network."""
    make = builder._make_download_manager

    def made(**arguments: Any) -> Any:
        manager = make(**arguments)
        manager._url_infos.update(manual.known)
        download = manager._download

        def checked(resource: Any) -> Any:
            _require_reachable(name, resource.url, manager._url_infos, manual.folder)
            return download(resource)

        manager._download = checked
        return manager

    builder._make_download_manager = made


def _require_reachable(name: str, url: str, known: dict[str, Any], folder: Path) -> None:
    import requests

    if not url.startswith("http"):
        return
    try:
        requests.head(url, timeout=_PATIENCE, allow_redirects=False)
    except requests.RequestException as error:
        cause = f"tfds:{name}: {url} cannot be reached ({type(error).__name__})"
        if url not in known:
            raise DataError(f"{cause}; prepare it where there is a network") from None
        missing = known[url].filename or _file_name(url)
        raise DataError(
            f"{cause}; put the file {missing} into {folder}, or name its folder with --set "
            "example_gen.tfds_manual_dir=FOLDER"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars and messages of TFDS out of the terminal."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
