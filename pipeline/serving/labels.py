"""Which version of a model has which label, which numbers were given, and what may go.

TF Serving takes a label only for a version that it has loaded, and reads labels before it loads
what the same configuration asks for. What is said here therefore keeps to two rules: a label moves
to a version that a server has loaded by then, and the version that it leaves stays there.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.serving import versions

Label = Literal["stable", "canary"]
STABLE: Label = "stable"
CANARY: Label = "canary"

FILE = ".labels.json"


@dataclass(frozen=True)
class Ledger:
    """The labels of one model.

    Args:
        highest: The highest version number that was ever given; it is not given again.
        labels: The version of each label.
        previous: The version that each label had before: servers use it until they have read the
            new configuration.
        history: The versions that `stable` had, oldest first, the present one last. A rollback
            goes back along it.
        withdrawn: Digests of what a person took out of service, to the versions that held them. It
            is not pushed again until somebody asks for it.
    """

    highest: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    previous: Mapping[str, int] = field(default_factory=dict)
    history: tuple[int, ...] = ()
    withdrawn: Mapping[str, int] = field(default_factory=dict)

    def among(self, present: Collection[int]) -> "Ledger":
        """Returns the ledger without versions that are not there, as a person may remove some."""
        return Ledger(
            highest=max(self.highest, *present, 0),
            labels={name: number for name, number in self.labels.items() if number in present},
            previous={name: number for name, number in self.previous.items() if number in present},
            history=tuple(number for number in self.history if number in present),
            withdrawn=self.withdrawn,
        )

    def of(self, number: int) -> tuple[str, ...]:
        """Returns the labels of version `number`."""
        return tuple(name for name, labelled in self.labels.items() if labelled == number)

    def moved(self, label: str, number: int) -> "Ledger":
        """Returns the ledger after `label` was given to version `number`.

        `canary` is never behind `stable`: it goes along when it would be.
        """
        moved = self._set(label, number)
        if label == STABLE:
            # What is newer was taken back, so that the next rollback does not go there.
            older = (earlier for earlier in self.history if earlier < number)
            moved = replace(moved, history=(*older, number))
            if CANARY in self.labels and self.labels[CANARY] < number:
                moved = moved._set(CANARY, number)
        return moved

    def promoted(self, label: str, number: int, digest: Callable[[int], str]) -> "Ledger":
        """Returns the ledger after a person gave `label` to version `number`.

        What is newer and loses the label is withdrawn.

        Args:
            label: The label.
            number: A version.
            digest: Returns the digest of a version.
        """
        moved = self.moved(label, number)
        if number < self.labels.get(label, number):
            return moved.withdrawing(self, digest)
        return moved.admitting(digest)

    def rolled_back(self, target: int, number: int) -> "Ledger":
        """Returns the ledger after the content of version `target` was published as `number`.

        What `stable` was given since `target` is forgotten, so that the next rollback goes on from
        there.
        """
        history = self.history
        if target in history:
            history = history[: history.index(target)]
        return replace(replace(self, history=history).moved(STABLE, number), highest=number)

    def next_number(self, name: str) -> int:
        """Returns the number of the next version of the model `name`.

        Raises:
            DataError: A directory has the greatest number that servers know.
        """
        if self.highest >= versions.GREATEST:
            raise DataError(
                f"model {name}: version {self.highest} is there or was, the greatest number that TF "
                f"Serving knows; remove it and what {FILE} says of it, or push under another name"
            )
        return self.highest + 1

    def served(self, present: Collection[int]) -> list[int]:
        """Returns the version that is served, and before it those that were, the latest first.

        Without `stable` that is the highest of the `present`, and then the next ones.
        """
        if STABLE not in self.labels:
            return sorted(present, reverse=True)
        return [number for number in reversed(self.history) if number in present]

    def withdrawing(self, before: "Ledger", digest: Callable[[int], str]) -> "Ledger":
        """Returns the ledger after what is served no more since `before` was withdrawn.

        Args:
            before: The ledger before a person took versions out of service.
            digest: Returns the digest of a version.
        """
        left = {
            number for name, number in before.labels.items() if self.labels.get(name) != number
        } | set(before.history).difference(self.history)
        withdrawn = {**self.withdrawn, **{digest(number): number for number in sorted(left)}}
        return replace(self, withdrawn=withdrawn).admitting(digest)

    def admitting(self, digest: Callable[[int], str]) -> "Ledger":
        """Returns the ledger in which nothing that is `stable` counts as withdrawn."""
        if not self.withdrawn or STABLE not in self.labels:
            return self
        served = digest(self.labels[STABLE])
        withdrawn = {key: number for key, number in self.withdrawn.items() if key != served}
        return replace(self, withdrawn=withdrawn)

    def num_versions(self, present: Collection[int]) -> int:
        """Returns how many of the highest versions TF Serving has to keep loaded.

        They reach down to the lowest with a label, and there is a place for one more: so the next
        version is loaded before a label leaves the last one.
        """
        if not self.labels:
            return 1
        return 1 + sum(number >= min(self.labels.values()) for number in present)

    def loaded(self, present: Collection[int]) -> list[int]:
        """Returns the versions that TF Serving keeps loaded, lowest first."""
        return sorted(present)[-self.num_versions(present) :]

    def removable(self, present: Collection[int], keep_last: int | None) -> list[int]:
        """Returns the versions that may go, lowest first.

        Args:
            present: The versions that are there.
            keep_last: The number of the highest that stay; None keeps all. Beyond them stay those
                with a label and those that had one until it moved last.
        """
        if keep_last is None:
            return []
        ordered = sorted(present)
        kept = {*ordered[-keep_last:], *self.labels.values(), *self.previous.values()}
        return [number for number in ordered if number not in kept]

    def _set(self, label: str, number: int) -> "Ledger":
        before = self.labels.get(label)
        if before == number:
            return self
        previous = self.previous if before is None else {**self.previous, label: before}
        return replace(self, labels={**self.labels, label: number}, previous=previous)


def require_promotable(
    ledger: Ledger, present: Collection[int], label: str, number: int, name: str
) -> None:
    """Raises UsageError when version `number` of the model `name` cannot be given `label`."""
    require_version(present, number, name)
    # Before the first label a server follows the highest version, and takes any new label.
    if ledger.labels and number not in ledger.loaded(present):
        loaded = ", ".join(map(str, ledger.loaded(present)))
        raise UsageError(
            f"version {number} of {name}: servers have only {loaded} loaded, and refuse a label for "
            f"another; rollback {name} --to {number} publishes it again as the newest"
        )
    stable = ledger.labels.get(STABLE)
    if label == CANARY and stable is not None and number < stable:
        raise UsageError(
            f"version {number} of {name}: older than {STABLE}, which is {stable}; {CANARY} is what "
            "comes next"
        )


def require_in_favour(
    ledger: Ledger, digest: str, label: str, number: int | None, name: str
) -> None:
    """Raises PipelineError when a push would undo that a person took the model out of service.

    Args:
        ledger: The labels.
        digest: Of the model that is pushed.
        label: What it is pushed as.
        number: The version that holds it already, if there is one.
        name: What messages call the model.
    """
    if digest not in ledger.withdrawn or (number and ledger.labels.get(label) == number):
        return
    was = ledger.withdrawn[digest]
    raise PipelineError(
        f"nothing was pushed: this model is version {was} of {name} again, which a rollback or a "
        f"promotion took out of service; `rollback {name} --to {was}` serves it again, "
        "`push MODEL --again` pushes it all the same"
    )


def require_version(present: Collection[int], number: int, name: str) -> None:
    """Raises UsageError when version `number` of the model `name` is not among the `present`."""
    if number not in present:
        known = ", ".join(map(str, sorted(present))) or "no version at all"
        raise UsageError(f"version {number} of {name}: not there; expected one of {known}")


def rollback_target(
    ledger: Ledger,
    present: Collection[int],
    to: int | None,
    digest: Callable[[int], str],
    name: str,
) -> int:
    """Returns the version whose content a rollback of the model `name` publishes again.

    Args:
        ledger: The labels.
        present: The complete versions; at least one.
        to: The version that is asked for; by default the last one that was `stable` before, and
            held another model.
        digest: Returns the digest of a version.
        name: What messages call the model.

    Raises:
        UsageError: There is none, or it is what is served already.
    """
    now = ledger.labels.get(STABLE, max(present))
    if to is not None:
        require_version(present, to, name)
        if to == now == max(present):
            raise UsageError(f"version {to} of {name}: is what is served already")
        return to
    before = ledger.history
    if now in before:
        before = before[: before.index(now)]
    served = digest(now)
    for number in reversed(before):
        if number in present and digest(number) != served:
            return number
    raise UsageError(
        f"model {name}: none was served before version {now} with another content; --to names one"
    )


def parse(text: str, source: str) -> Ledger:
    """Returns the ledger that `text` holds.

    Raises:
        DataError: It holds none; `source` is what the message calls it.
    """
    try:
        values = json.loads(text)
        return Ledger(
            highest=int(values["highest"]),
            labels={str(name): int(number) for name, number in values["labels"].items()},
            previous={str(name): int(number) for name, number in values["previous"].items()},
            history=tuple(map(int, values["history"])),
            withdrawn={
                str(digest): int(number) for digest, number in values.get("withdrawn", {}).items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f"{source}: not a record of labels; remove the file and promote a version again"
        ) from None


def as_text(ledger: Ledger) -> str:
    """Returns the ledger as JSON."""
    return json.dumps(asdict(ledger), indent=2) + "\n"


def load(base: Path, present: Collection[int]) -> Ledger:
    """Returns the ledger of the versions below `base`, which are `present`.

    Where none was kept yet, each version counts as the one that was served in its time.

    Raises:
        DataError: The file is damaged.
    """
    path = base / FILE
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return Ledger(history=tuple(sorted(present))).among(present)
    return parse(text, str(path)).among(present)


def save(base: Path, ledger: Ledger) -> None:
    """Writes the ledger of the versions below `base`."""
    files.write_text(base / FILE, as_text(ledger))
