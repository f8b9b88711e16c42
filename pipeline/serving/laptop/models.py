"""Which models and versions are served: they come and go while requests are answered.

By TF Serving's rules: the highest versions are loaded, as many as the labels ask for; an old one
goes when a new one is there, and after its last request; what cannot be loaded takes nothing away.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, UsageError
from pipeline.serving import labels, versions
from pipeline.serving.labels import Ledger
from pipeline.serving.laptop.batching import Queue
from pipeline.serving.laptop.limits import RefusedError
from pipeline.serving.laptop.loading import CODES, OK, UNKNOWN, Loaded, LoadError

START, LOADING, AVAILABLE = "START", "LOADING", "AVAILABLE"
UNLOADING, END = "UNLOADING", "END"

_INTERVAL = 1.0
# As TF Serving tries again to load what it could not.
_RETRIES = 5
_RETRY_SECONDS = 60.0

# What is on the disk of each model: its versions and labels.
Listing = Mapping[str, tuple[list[int], Ledger | None]]


@dataclass(eq=False)
class Version:
    """One version of a model.

    Args:
        number: Its number.
        path: Its directory.
        state: As TF Serving calls it.
        code: Why it is in that state; `OK` where all is well.
        message: The same in words.
        loaded: What answers, from when it is available until it is freed.
        queues: What waits for each signature.
        holders: The requests that are being answered by it.
        tries: How often it could not be loaded.
        retry_at: When it is tried again, in seconds of the loop's clock.
    """

    number: int
    path: Path
    state: str = START
    code: int = OK
    message: str = ""
    loaded: Loaded | None = None
    queues: dict[str, Queue] = field(default_factory=dict)
    holders: int = 0
    tries: int = 0
    retry_at: float = 0.0

    def status(self) -> dict[str, Any]:
        """Returns its status as TF Serving shows it."""
        status = {"error_code": CODES.get(self.code, CODES[UNKNOWN]), "error_message": self.message}
        return {"version": str(self.number), "state": self.state, "status": status}


class Model:
    """The versions and labels of one model.

    Args:
        name: Its name.
        base: The directory of its versions.
    """

    def __init__(self, name: str, base: Path):
        self.name = name
        self.base = base
        self.versions: dict[int, Version] = {}
        self.ledger = Ledger()
        self.labels: dict[str, int] = {}
        self.unready: set[str] = set()

    def available(self) -> list[int]:
        """Returns the versions that answer, lowest first."""
        return sorted(n for n, version in self.versions.items() if version.state == AVAILABLE)

    def find(self, number: int | None, label: str | None) -> Version:
        """Returns the version that a request means: by number, by label, or the highest.

        Raises:
            RefusedError: It is not there.
        """
        if label is not None:
            if label not in self.labels:
                if label in self.unready:
                    raise RefusedError(
                        503, f"model {self.name!r}: {label} is not loaded yet", retry_after=1
                    )
                known = ", ".join(sorted(self.labels)) or "none"
                raise RefusedError(
                    400, f"Unrecognized servable version label: {label[:100]}; there are {known}"
                )
            number = self.labels[label]
        available = self.available()
        if number is None and available:
            number = available[-1]
        if number not in available:
            raise self._missing(number)
        return self.versions[number]

    def _missing(self, number: int | None) -> RefusedError:
        if number is None:
            pending = any(v.state in (START, LOADING) for v in self.versions.values())
            if pending:
                return RefusedError(503, f"model {self.name!r} is being loaded", retry_after=1)
            why = next((v.message for v in self.versions.values() if v.message), "it is gone")
            return RefusedError(503, f"model {self.name!r} cannot be served: {why}", retry_after=1)
        shown = ", ".join(map(str, self.available())) or "none"
        return RefusedError(
            404, f"version {number} of model {self.name!r} is not loaded; loaded: {shown}"
        )

    def statuses(self, number: int | None, label: str | None) -> list[dict[str, Any]]:
        """Returns the status of one version, or of all, highest first.

        Raises:
            RefusedError: There is no such version.
        """
        if label is not None:
            number = self.find(None, label).number
        if number is not None and number not in self.versions:
            raise RefusedError(404, f"Could not find version {number} of model {self.name}")
        numbers = sorted(self.versions, reverse=True) if number is None else [number]
        return [self.versions[number].status() for number in numbers]


class Repository:
    """The models below a directory, and what becomes of them.

    Lives in the event loop; the disk is read, and versions are loaded and freed, in two threads.

    Args:
        folder: The directory of all models, or of one.
        say: Is told in one line what changes.

    Raises:
        UsageError: There is no model.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder = folder
        self.is_single = _is_model(folder)
        self.models: dict[str, Model] = {}
        self.settled = asyncio.Event()
        self._say = say
        self._stopping = threading.Event()
        self._looks = ThreadPoolExecutor(1, "look")
        self._loads = ThreadPoolExecutor(1, "load")
        self._tasks: set[asyncio.Task] = set()
        self._complaint: str | None = None
        if (folder / versions.SAVED_MODEL).is_file():
            raise UsageError(
                f"model {str(folder)!r}: is one version; name the directory above it, or `push` it "
                "to make it one"
            )
        if not self.is_single and not any(map(_is_model, _below(folder))):
            raise UsageError(
                f"model {str(folder)!r}: no versions in it, nor in a directory of it; `push` or "
                "`run` makes the first"
            )

    def find(self, name: str) -> Model:
        """Returns a model.

        Raises:
            RefusedError: There is none of this name.
        """
        if name not in self.models:
            known = ", ".join(sorted(self.models)) or "none"
            raise RefusedError(
                404, f"Could not find any versions of model {name[:100]}; served: {known}"
            )
        return self.models[name]

    @contextlib.contextmanager
    def hold(self, name: str, number: int | None, label: str | None) -> Iterator[Version]:
        """Keeps the version that a request means until the block ends.

        Raises:
            RefusedError: It is not there.
        """
        model = self.find(name)
        version = model.find(number, label)
        version.holders += 1
        try:
            yield version
        finally:
            version.holders -= 1
            if version.state == UNLOADING and not version.holders:
                self._spawn(self._free(model, version))

    async def run(self) -> None:
        """Looks at the disk every second, and follows what is there."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                listing = await loop.run_in_executor(self._looks, self._look)
            except OSError as error:
                self._complain(f"{self.folder}: cannot be read ({error.strerror or error})")
            except Exception as error:  # noqa: BLE001  whatever lies there, it is looked at again
                self._complain(f"{self.folder}: {type(error).__name__}: {error}")
            else:
                self._follow(listing)
            await asyncio.sleep(_INTERVAL)

    async def close(self) -> None:
        """Ends what is being loaded, and frees nothing: the process ends."""
        self._stopping.set()
        self._looks.shutdown(cancel_futures=True)
        self._loads.shutdown(wait=False, cancel_futures=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self) -> Listing:
        """Returns what is on the disk; called in a thread."""
        bases = [self.folder] if self.is_single else _below(self.folder)
        found: dict[str, tuple[list[int], Ledger | None]] = {}
        complaint = None
        for base in bases:
            present = versions.versions(base)
            if not present or (base.name not in self.models and not _is_model(base)):
                continue
            try:
                ledger = labels.load(base, present)
            except DataError as error:
                complaint = str(error)
                ledger = None if base.name in self.models else Ledger()
            if versions.versions(base) != present:
                ledger = None  # it may speak of a version that came in between; look again
            found[base.name] = (present, ledger)
        self._complain(complaint)
        return found

    def _complain(self, complaint: str | None) -> None:
        """Says what is wrong with the disk, once."""
        if complaint and complaint != self._complaint:
            self._say(f"{complaint}; what is loaded stays")
        self._complaint = complaint

    def _follow(self, listing: Listing) -> None:
        for name in {*listing, *self.models}:
            present, ledger = listing.get(name, ([], Ledger()))
            if name not in self.models:
                base = self.folder if self.is_single else self.folder / name
                self.models[name] = Model(name, base)
            if ledger is not None:
                self._follow_model(self.models[name], present, ledger)
            if not self.models[name].versions:
                del self.models[name]

    def _follow_model(self, model: Model, present: list[int], ledger: Ledger) -> None:
        model.ledger = ledger
        wanted = ledger.loaded(present)
        now = asyncio.get_running_loop().time()
        for number in reversed(wanted):
            version = model.versions.get(number)
            if version is None or (version.state == END and version.code == OK):
                version = model.versions[number] = Version(number, model.base / str(number))
                self._spawn(self._load(model, version))
            elif version.state == END and version.tries <= _RETRIES and now >= version.retry_at:
                version.state = START
                self._spawn(self._load(model, version))
        self._move_labels(model)
        answering = not wanted or any(number in model.available() for number in wanted)
        for number, version in list(model.versions.items()):
            if number in wanted or number in model.labels.values():
                continue
            if version.state == AVAILABLE and answering:
                version.state = UNLOADING
                if not version.holders:
                    self._spawn(self._free(model, version))
            elif version.state == END and number not in present:
                del model.versions[number]

    def _move_labels(self, model: Model) -> None:
        """Lets labels lead to where they should, once that is loaded; until then where they did."""
        available = model.available()
        before, model.labels = model.labels, {}
        for label, number in model.ledger.labels.items():
            if number not in available:
                number = before.get(label)
            if number in available:
                model.labels[label] = number
                if before and before.get(label) != number:
                    self._say(f"{model.name}: {label} is version {number}")
        model.unready = set(model.ledger.labels) - set(model.labels)

    async def _load(self, model: Model, version: Version) -> None:
        await self._try(model, version)
        pending = (
            other.state in (START, LOADING)
            for model in self.models.values()
            for other in model.versions.values()
        )
        if not any(pending):
            self.settled.set()

    async def _try(self, model: Model, version: Version) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def load() -> Loaded:
            loop.call_soon_threadsafe(setattr, version, "state", LOADING)
            return Loaded(version.path, self._stopping)

        try:
            loaded = await loop.run_in_executor(self._loads, load)
        except Exception as error:  # noqa: BLE001  whatever it is, the others are served
            version.code = error.code if isinstance(error, LoadError) else UNKNOWN
            version.message = str(error) or type(error).__name__
            version.tries += 1
            version.retry_at = loop.time() + _RETRY_SECONDS
            version.state = END
            others = ", ".join(map(str, model.available()))
            then = f"; still served: {others}" if others else ""
            self._say(
                f"{model.name}: version {version.number} cannot be loaded: {version.message}{then}"
            )
            return
        version.loaded = loaded
        version.queues = {name: Queue(loaded.run) for name in loaded.signatures}
        version.code, version.message, version.state = OK, "", AVAILABLE
        self._say(
            f"{model.name}: version {version.number} is served ({loop.time() - began:.1f} s to load)"
        )
        self._move_labels(model)

    async def _free(self, model: Model, version: Version) -> None:
        loaded, version.loaded, version.queues = version.loaded, None, {}
        await asyncio.get_running_loop().run_in_executor(self._loads, loaded.close)
        version.state = END
        self._say(f"{model.name}: version {version.number} is unloaded")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_model(folder: Path) -> bool:
    """Whether a directory holds versions, of which at least one has a SavedModel."""
    return any(
        (folder / str(number) / versions.SAVED_MODEL).is_file()
        for number in versions.versions(folder)
    )


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
