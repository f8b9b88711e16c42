"""A bulk job: a directory that fills shard by shard, and is gone on with where it was left.

predictions-00000-of-00042.jsonl    a shard, complete as soon as it is there
errors-00000-of-00042.jsonl         the images of it that nothing is said of, if there are any
summary.json                        written last: the job is complete
.job/                               until then: what was asked, the listing, files in work
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pipeline import files
from pipeline.bulk import inputs, outputs
from pipeline.bulk.inputs import Listing
from pipeline.bulk.outputs import Place, Written
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.orchestration import loading
from pipeline.orchestration.artifact import Context
from pipeline.serving import versions

SUMMARY = "summary.json"
_WORK, _LOCK = ".job", ".lock"
_ASKED, _LISTING = "asked.json", "listing-*.jsonl"
_SERVING = "Format-Serving"
_CLASSES = "assets/classes.txt"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What becomes of the files of another job.
Restart = Literal["never", "if_other", "always"]
_LIBRARIES = ("apache-beam", "keras", "numpy", "tensorflow")


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Args:
        data: What `inputs.write` takes.
        model: A directory with a `saved_model.pb`.
        name: Of the model, for the records.
        format: `"jsonl"` or `"prediction_log"`.
        shard_size: Images of a shard.
        batch_size: The most images of a call of the model.
        top: How many classes are named; None for as many as the model names.
        probabilities: Whether those of all classes are written.
        features: Whether features are written in place of classes.
    """

    data: str
    model: Path
    name: str
    format: str = outputs.JSONL
    shard_size: int = 1024
    batch_size: int = 32
    top: int | None = None
    probabilities: bool = False
    features: bool = False


@dataclass(frozen=True)
class Account:
    """What a job came to.

    Args:
        summary: The content of `summary.json`.
        done_before: How many images had been done when it was started this time.
    """

    summary: dict[str, Any]
    done_before: int

    @property
    def line(self) -> str:
        """The figures in one line, for a person."""
        summary, speed = self.summary, self.summary["speed"]
        parts = [f"{summary['predicted']:,} of {summary['images']:,} images predicted"]
        if summary["not_predicted"]:
            codes = ", ".join(f"{count:,} {code}" for code, count in summary["codes"].items())
            parts.append(f"{summary['not_predicted']:,} not ({codes})")
        if self.done_before == summary["images"]:
            parts.append("all of them before")
        else:
            if self.done_before:
                parts.append(f"{self.done_before:,} of them before")
            parts.append(f"{speed['images_per_second']:,} images per second")
        return "; ".join(parts)


def run(request: Request, directory: Path, context: Context, restart: Restart = "never") -> Account:
    """Does what is left of a job, and returns what it came to.

    Args:
        request: What is to be done.
        directory: Where the files go: empty, new, or with what this job has done so far.
        context: Its progress receives the number of images done.
        restart: When what is in `directory` makes room for a job that begins anew: never, if it is
            of another job, or also if it is of this one and complete.

    Raises:
        UsageError: The directory holds something else, or another process works in it; or there is
            no such data, or the model cannot be asked this.
        PipelineError: The disk is full, or the model fails.
        Stopped: SIGTERM; what is done stays.
    """
    files.require_writable(directory, "output")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
    with _alone(directory), _full_disk_said():
        before = _names(directory)
        try:
            return _Job(request, directory, context).run(restart)
        except UsageError:
            if _WORK not in before:
                shutil.rmtree(directory / _WORK if before else directory, ignore_errors=True)
            raise


def model_of(model: Path) -> tuple[Path, str]:
    """Returns the directory of the SavedModel that a person means, and the name of the model.

    Args:
        model: A SavedModel, a directory of versions of one, or a Model artifact of a run.

    Raises:
        UsageError: There is none.
    """
    serving = model / _SERVING
    found = versions.resolve(serving if serving.is_dir() else model).absolute()
    if found.name == _SERVING:
        return found, found.parents[3].name  # RUN/Trainer/model/NUMBER/Format-Serving
    return found, found.name if versions.number_of(found.name) is None else found.parent.name


class _Job:
    """A job in its directory, of which this process holds the lock."""

    def __init__(self, request: Request, directory: Path, context: Context):
        self._request, self._directory, self._context = request, directory, context
        self._work = directory / _WORK
        # Another name each time: a job that outlived its driver on a cluster must not answer this one.
        self._listing = self._work / _LISTING.replace("*", uuid.uuid4().hex)

    def run(self, restart: Restart) -> Account:
        self._require_own()
        for leftover in self._work.glob("*.part"):
            leftover.unlink()
        asked, listing = self._settle(restart)
        request = self._request
        place = Place(self._directory, self._work, request.format, len(listing.shards))
        pending, found = [], []
        for shard in listing.shards:
            whole = outputs.whole(place, shard.number, shard.rows)
            found += whole or ()
            if whole is None:
                pending.append(shard)
        done = listing.rows - sum(shard.rows for shard in pending)
        if not pending and (earlier := self._summary()):
            shutil.rmtree(self._work)
            return Account(earlier, done)
        if done:
            self._context.say(
                f"{done:,} of {listing.rows:,} images are done already; going on with the others"
            )
        seconds = 0.0
        if pending:
            (self._directory / SUMMARY).unlink(missing_ok=True)
            seconds = self._infer(place, pending, done, listing)
        for shard in pending:
            whole = outputs.whole(place, shard.number, shard.rows)
            if whole is None:
                raise PipelineError(
                    f"{place.predictions(shard.number)}: is not what was written a moment ago; "
                    "does something else write there? The same command goes on"
                )
            found += whole
        summary = self._summarize(asked, listing, found, listing.rows - done, seconds)
        files.write_json(self._directory / SUMMARY, summary)
        shutil.rmtree(self._work)
        return Account(summary, done)

    def _require_own(self) -> None:
        """Refuses a directory with files that are not of a job."""
        names = _names(self._directory)
        if names and _WORK not in names and not self._summary():
            raise UsageError(
                f"output {str(self._directory)!r}: holds {min(names)!r} and no job; expected a "
                "directory that is new or empty"
            )

    def _is_unfinished(self) -> bool:
        """Returns whether a job was begun here, and is not complete."""
        return (self._work / _ASKED).is_file() and not self._summary()

    def _clear(self, before: dict[str, Any]) -> None:
        """Removes what another job left, first what says that it is complete."""
        # Who is killed amidst this leaves shards, which must not be taken for those of this job.
        files.write_json(self._work / _ASKED, before)
        for pattern in (SUMMARY, *outputs.PATTERNS):
            for path in self._directory.glob(pattern):
                path.unlink()

    def _settle(self, restart: Restart) -> tuple[dict[str, Any], Listing]:
        """Returns what is asked, and the listing; writes both down.

        Raises:
            UsageError: The directory is that of a job that differs.
        """
        self._work.mkdir(exist_ok=True)
        new = self._listing.with_suffix(".part")
        with new.open("wb") as file:
            listing = inputs.write(self._request.data, self._request.shard_size, file)
        for notice in listing.notices:
            self._context.say(notice)
        asked = self._asked(listing)
        before = self._before()
        if changed := _changed(before, asked) if before else []:
            if restart == "never":
                raise self._other(before, asked, changed)
            self._clear(before)
        elif restart == "always" and not self._is_unfinished():
            self._clear(before)
        for earlier in self._work.glob(_LISTING):
            earlier.unlink()
        new.replace(self._listing)
        files.write_json(self._work / _ASKED, asked)
        return asked, listing

    def _asked(self, listing: Listing) -> dict[str, Any]:
        """Returns all that the files depend on, save the libraries."""
        request = self._request
        return {
            "data": _text(request.data),
            "images": listing.rows,
            "listing": listing.sha256,
            "model": versions.digest(request.model),
            "format": request.format,
            "shard_size": request.shard_size,
            "top": request.top,
            "probabilities": request.probabilities,
            "features": request.features,
        }

    def _before(self) -> dict[str, Any]:
        """Returns what was asked when this directory was begun; nothing of a new one."""
        if (path := self._work / _ASKED).is_file():
            return json.loads(path.read_bytes())
        return self._summary().get("asked", {})  # of one that is complete

    def _summary(self) -> dict[str, Any]:
        """Returns the summary of a job that is complete; nothing where there is none."""
        try:
            found = json.loads((self._directory / SUMMARY).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) and "asked" in found else {}

    def _other(
        self, before: dict[str, Any], asked: dict[str, Any], changed: list[str]
    ) -> UsageError:
        """Returns what to say of a directory that another job has begun."""
        said = []
        for name in changed:
            if name == "model":
                said.append(f"another model ({before[name][:12]}, now {asked[name][:12]})")
            elif name == "listing" and "shard_size" not in changed:
                said.append("other files (names, sizes or times of change differ)")
            elif name != "listing":
                said.append(f"{name} {before.get(name)}, now {asked[name]}")
        return UsageError(
            f"output {str(self._directory)!r}: was begun with {'; '.join(said)}; choose another "
            "directory, or --restart to begin this one anew"
        )

    def _infer(
        self, place: Place, pending: list[inputs.Shard], done: int, listing: Listing
    ) -> float:
        """Does what is left, and returns the seconds it took once libraries were loaded."""
        # Ctrl-C waits for it: TensorFlow dies of a signal while it is loaded.
        loading.load({name: metadata.version(name) for name in ("tensorflow", "apache_beam")})
        from pipeline.beam import inference

        request = self._request

        def progress(now: float, of: float, **figures: float | str) -> None:
            self._context.progress(done + now, listing.rows, **figures)

        question = inference.Question(
            model=str(request.model),
            name=request.name,
            version=versions.number_of(request.model.name),
            listing=self._listing,
            place=place,
            batch_size=request.batch_size,
            top=request.top,
            probabilities=request.probabilities,
            features=request.features,
        )
        context = replace(self._context, name=request.name, progress=progress)
        begin = time.perf_counter()
        try:
            inference.run(question, pending, context, listing.location)
        except Stopped:
            raise Stopped(
                "stopped by SIGTERM; the shards that are complete are kept, and the same command "
                "goes on from there"
            ) from None
        return time.perf_counter() - begin

    def _summarize(
        self,
        asked: dict[str, Any],
        listing: Listing,
        found: list[Written],
        images: int,
        seconds: float,
    ) -> dict[str, Any]:
        codes: Counter[str] = Counter()
        for file in found:
            codes.update(file.codes)
        classes = self._request.model / _CLASSES
        return {
            "images": listing.rows,
            "predicted": listing.rows - codes.total(),
            "not_predicted": codes.total(),
            "codes": dict(sorted(codes.items(), key=lambda code: (-code[1], code[0]))),
            "asked": asked,
            "model": _text(str(self._request.model)),
            "classes": classes.read_text().splitlines() if classes.is_file() else [],
            "files": [
                {name: value for name, value in asdict(file).items() if name != "codes"}
                for file in sorted(found, key=lambda file: file.file)
            ],
            "speed": {
                "images": images,
                "seconds": round(seconds, 3),
                "images_per_second": round(images / seconds, 1) if seconds else 0.0,
                "batch_size": self._request.batch_size,
            },
            "versions": {name: metadata.version(name) for name in _LIBRARIES},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _text(name: str) -> str:
    """Returns the name of a file as a person may read it, also where it is no UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def _names(directory: Path) -> set[str]:
    """Returns what is in a directory beside the lock."""
    return {path.name for path in directory.iterdir()} - {_LOCK}


def _changed(before: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Returns in what two jobs differ; how the data are called is not looked at."""
    return [name for name in asked if name != "data" and before.get(name) != asked[name]]


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Holds the lock of a directory, which the system frees when the process dies.

    Raises:
        UsageError: Another process holds it.
    """
    path = directory / _LOCK
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed it since it was opened here.
            is_held = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except BlockingIOError:
            is_held = False
        if not is_held:
            raise UsageError(
                f"output {str(directory)!r}: another process works in it; wait for its end, or "
                "choose another directory"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _full_disk_said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise PipelineError(
            "the disk is full; free space, and the same command goes on: what is complete is kept"
        ) from error
