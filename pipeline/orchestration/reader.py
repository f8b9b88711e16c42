"""What the store knows: executions by what they depend on, wrote and read, and runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import UsageError
from pipeline.orchestration import database, history, rows
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.fingerprint import digest
from pipeline.orchestration.history import CACHED, COMPLETE, Execution, Run

SYSTEM = ".system"
_OWN = ("parameters", "code", "libraries")


class Reader:
    """The read side of a `Store`, which says where everything lies."""

    def __init__(self, root: Path):
        self.root = root.absolute()
        self.database = database.Database(self.root / SYSTEM / "metadata.sqlite")

    @property
    def exists(self) -> bool:
        """Whether anything was ever recorded below the root."""
        return self.database.path.is_file()

    def runs(self, last: int | None = None) -> list[Run]:
        """Returns the runs, the oldest first; only the newest `last`, if given."""
        if not self.exists:
            return []
        with self.database.reading() as connection:
            return history.runs(connection, self.root, None, last)

    def run(self, number: int) -> Run:
        """Returns the run `number`.

        Raises:
            UsageError: There is none.
        """
        if self.exists:
            with self.database.reading() as connection:
                if found := history.runs(connection, self.root, [number], None):
                    return found[0]
        raise UsageError(f"run {number}: {self.root} knows no such run; `runs` shows them")

    def first_run(self, number: int) -> Run | None:
        """Returns the run that the execution `number` was a step of, or None."""
        names = self._numbers(
            "SELECT CAST(Context.name AS INTEGER) FROM Association "
            "JOIN Context ON Context.id = Association.context_id "
            "JOIN Type ON Type.id = Context.type_id AND Type.name = ? "
            "WHERE Association.execution_id = ?",
            (history.RUN, number),
        )
        return self.run(names[0]) if names else None

    def executions(self, numbers: Iterable[int]) -> dict[int, Execution]:
        """Returns executions by their numbers; those that are unknown are left out."""
        if not self.exists:
            return {}
        with self.database.reading() as connection:
            return history.executions(connection, self.root, numbers)

    def find(self, component: str, key: str) -> Execution | None:
        """Returns the newest execution of `component` under `key` that ended well and stands.

        An artifact of which a file is missing, added or of another size does not count.
        """
        for execution in self.with_key(component, key):
            # A refusal may have had a passing cause; whoever runs again wants to know anew.
            if execution.outcome.refusal is None and all(map(stands, execution.outputs.values())):
                return execution
        return None

    def with_key(self, component: str, key: str) -> Iterator[Execution]:
        """Yields the complete executions of `component` under `key`, the newest first."""
        yield from self._complete(
            component,
            "JOIN ExecutionProperty AS Own ON Own.execution_id = Execution.id "
            "AND Own.name = 'key' AND Own.string_value = ?",
            key,
        )

    def completed(self, component: str) -> Iterator[Execution]:
        """Yields the complete executions of `component`, the newest first."""
        yield from self._complete(component)

    def completed_with(self, component: str, own: dict[str, Any]) -> bool:
        """Returns whether `component` ever completed with these parameters, code and libraries."""
        found = self._complete(
            component,
            "JOIN ExecutionProperty AS Own ON Own.execution_id = Execution.id "
            "AND Own.name = 'own' AND Own.string_value = ?",
            own_key(own),
        )
        return next(found, None) is not None

    def last_used(self, component: str) -> Execution | None:
        """Returns the complete execution of `component` that a run made or used last."""
        if not self.exists:
            return None
        with self.database.reading() as connection:
            numbers = connection.execute(
                "SELECT max(id) FROM Execution WHERE type_id = ? AND last_known_state IN (?, ?)",
                (
                    rows.known_type(connection, rows.EXECUTION_TYPE, component),
                    rows.STATES.index(COMPLETE),
                    rows.STATES.index(CACHED),
                ),
            )
            for (number,) in numbers:
                if number is not None:
                    used = rows.get(connection, "Execution", [number], names=("used",))
                    number = used.get(number, {}).get("used", number)
                    return history.executions(connection, self.root, [number])[number]
        return None

    def previous_span(self, component: str, output: str, current: Artifact) -> Artifact | None:
        """Returns what `component` wrote last for the greatest span before that of `current`.

        Args:
            component: Name of the component.
            output: Its output key.
            current: An artifact of the same kind; one without a span has none before it.
        """
        span = current.properties.get("span")
        if span is None or not self.exists:
            return None
        with self.database.reading() as connection:
            numbers = connection.execute(
                "SELECT Event.artifact_id FROM Execution "
                "JOIN Event ON Event.execution_id = Execution.id AND Event.type = ? "
                "JOIN EventPath ON EventPath.event_id = Event.id AND EventPath.step_key = ? "
                "JOIN Artifact ON Artifact.id = Event.artifact_id AND Artifact.state = ? "
                "JOIN ArtifactProperty AS Own ON Own.artifact_id = Artifact.id "
                "AND Own.name = 'span' AND Own.is_custom_property = 1 AND Own.int_value < ? "
                "WHERE Execution.type_id = ? AND Execution.last_known_state = ? "
                "ORDER BY Own.int_value DESC, Execution.id DESC",
                (
                    rows.OUTPUT,
                    output,
                    rows.LIVE,
                    span,
                    rows.known_type(connection, rows.EXECUTION_TYPE, component),
                    rows.STATES.index(COMPLETE),
                ),
            ).fetchall()
            for (number,) in numbers:
                artifact = rows.artifacts(connection, self.root, [number])[number]
                if stands(artifact):
                    return artifact
        return None

    def maker(self, content: str) -> Execution | None:
        """Returns the newest execution that wrote an artifact of this digest, or None."""
        numbers = self._numbers(
            "SELECT Execution.id FROM ArtifactProperty AS Own "
            "JOIN Event ON Event.artifact_id = Own.artifact_id AND Event.type = ? "
            "JOIN Execution ON Execution.id = Event.execution_id "
            "AND Execution.last_known_state = ? "
            "WHERE Own.name = 'digest' AND Own.string_value = ? "
            "ORDER BY Execution.id DESC LIMIT 1",
            (rows.OUTPUT, rows.STATES.index(COMPLETE), content),
        )
        return next(iter(self.executions(numbers).values()), None)

    def readers(self, content: str) -> list[Execution]:
        """Returns the complete executions that read an artifact of this digest, the oldest first."""
        numbers = self._numbers(
            "SELECT DISTINCT Execution.id FROM ArtifactProperty AS Own "
            "JOIN Event ON Event.artifact_id = Own.artifact_id AND Event.type = ? "
            "JOIN Execution ON Execution.id = Event.execution_id "
            "AND Execution.last_known_state = ? "
            "WHERE Own.name = 'digest' AND Own.string_value = ? ORDER BY Execution.id",
            (rows.INPUT, rows.STATES.index(COMPLETE), content),
        )
        return list(self.executions(numbers).values())

    def writer(self, artifact: Artifact) -> int | None:
        """Returns the number of the execution that wrote this very artifact, or None."""
        uri = artifact.uri.relative_to(self.root).as_posix()
        numbers = self._numbers(
            "SELECT Event.execution_id FROM Artifact "
            "JOIN Event ON Event.artifact_id = Artifact.id AND Event.type = ? "
            "WHERE Artifact.uri = ? ORDER BY Artifact.id DESC, Event.id LIMIT 1",
            (rows.OUTPUT, uri),
        )
        return next(iter(numbers), None)

    def state(self, component: str, key: str) -> Path:
        """Returns where executions of `component` under `key` keep what the next one may need."""
        return self.root / component / SYSTEM / "stateful_working_dir" / key

    def _complete(self, component: str, join: str = "", *values: str) -> Iterator[Execution]:
        """Yields complete executions of `component`, the newest first, each read when it is due."""
        if not self.exists:
            return
        with self.database.reading() as connection:
            numbers = connection.execute(
                f"SELECT Execution.id FROM Execution {join} "
                "WHERE Execution.type_id = ? AND Execution.last_known_state = ? "
                "ORDER BY Execution.id DESC",
                (
                    *values,
                    rows.known_type(connection, rows.EXECUTION_TYPE, component),
                    rows.STATES.index(COMPLETE),
                ),
            ).fetchall()
        for (number,) in numbers:
            yield self.executions([number])[number]

    def _numbers(self, query: str, values: Sequence[Any]) -> list[int]:
        if not self.exists:
            return []
        with self.database.reading() as connection:
            return [number for (number,) in connection.execute(query, values)]


def stands(artifact: Artifact) -> bool:
    """Whether the files of an artifact are there, of the sizes that they had."""
    return files.tree_listing(artifact.uri) == artifact.listing


def own_key(dependencies: Mapping[str, Any]) -> str:
    """Returns what a component itself brings to its key, as a digest."""
    return digest({name: dependencies[name] for name in _OWN if name in dependencies})
