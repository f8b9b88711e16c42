"""What is known of the data of a run, read from the artifacts that its components left."""

import itertools
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.errors import UsageError
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.history import Execution, Run
from pipeline.orchestration.store import Store
from pipeline.records import manifest, protos
from pipeline.reporting import reading

Entry = dict[str, Any]


@dataclass(frozen=True)
class Fate:
    """What became of the images of a class, or of all.

    Args:
        seen: How many there were.
        written: How many are in the records.
        quarantined: How many cannot be used.
        duplicates: How many were dropped as copies.
    """

    seen: int
    written: int
    quarantined: int
    duplicates: int

    def __add__(self, other: "Fate") -> "Fate":
        """Returns what became of the images of both."""
        return Fate(*map(int.__add__, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Data:
    """What is known of the data of a run; None for what no file says.

    Args:
        name: Name of the pipeline.
        parameters: What ExampleGen ran with, such as `source`.
        span: The span that the images are of; None where the source has none.
        examples: The Examples artifact.
        contents: Its manifest.
        fates: Class to what became of its images; the empty class is that of images without one.
        quarantined: Entries of `quarantine.jsonl`.
        duplicates: Entries of `duplicates.jsonl`.
        overlaps: Entries of `overlaps.jsonl`.
        statistics: Split to what StatisticsGen measured.
        anomalies: Entries of `anomalies.json`.
        executions: The executions that wrote all this.
    """

    name: str
    parameters: dict[str, Any]
    span: int | None
    examples: Path
    contents: manifest.Manifest
    fates: dict[str, Fate] | None
    quarantined: list[Entry] | None
    duplicates: list[Entry] | None
    overlaps: list[Entry] | None
    statistics: dict[str, statistics_pb2.DatasetFeatureStatistics] | None
    anomalies: list[Entry] | None
    executions: tuple[Execution, ...]


def gather(root: Path) -> Data:
    """Reads what the last run below `root` made or used again.

    Where no run has recorded that, the newest complete executions count; of StatisticsGen and
    ExampleValidator in any case only what was made from the same Examples.

    Args:
        root: A pipeline root, such as `runs/photos`.

    Raises:
        UsageError: No ExampleGen has ended well there.
        DataError: A file is damaged.
    """
    store = Store(root)
    generated = _last(store, "ExampleGen", {})
    if generated is None:
        raise UsageError(
            f"root {str(root)!r}: no images were ingested there; expected the folder of a run, "
            "such as runs/digits; `python -m pipeline run` makes one"
        )
    examples = generated.outputs["examples"]
    measured = _last(store, "StatisticsGen", {"examples": examples})
    validated = measured and _last(
        store, "ExampleValidator", {"statistics": measured.outputs["statistics"]}
    )
    return read(root.absolute().name, generated, measured, validated)


def of_run(store: Store, run: Run) -> Data | None:
    """Reads what a run made or used again; None where it has no images, or has them no more.

    Raises:
        DataError: A file is damaged.
    """
    steps = (run.step(name) for name in ("ExampleGen", "StatisticsGen", "ExampleValidator"))
    numbers = [step.execution_id if step and step.outputs else None for step in steps]
    known = store.executions(filter(None, numbers))
    found = [known.get(number) for number in numbers]
    generated, measured, validated = (own if own and _is_there(own) else None for own in found)
    return generated and read(run.pipeline, generated, measured, validated)


def read(
    name: str, generated: Execution, measured: Execution | None, validated: Execution | None
) -> Data:
    """Reads what complete executions of the components of data wrote.

    Args:
        name: Name of the pipeline.
        generated: Of ExampleGen.
        measured: Of StatisticsGen, on the same images.
        validated: Of ExampleValidator, on the same statistics.

    Raises:
        DataError: A file is damaged.
    """
    examples = generated.outputs["examples"]
    parameters = generated.dependencies["parameters"]
    span = examples.properties.get("span")
    contents = manifest.load(examples.uri)
    return Data(
        name=name,
        parameters=parameters,
        # What has no spans is of span 0.
        span=span if span or "{" in parameters["source"] else None,
        examples=examples.uri,
        contents=contents,
        fates=_fates(reading.json_file(examples.uri / "account.json")),
        quarantined=reading.json_lines(examples.uri / "quarantine.jsonl"),
        duplicates=reading.json_lines(examples.uri / "duplicates.jsonl"),
        overlaps=reading.json_lines(examples.uri / "overlaps.jsonl"),
        statistics=measured and protos.read_statistics(measured.outputs["statistics"]),
        anomalies=validated
        and reading.json_file(validated.outputs["anomalies"].uri / "anomalies.json"),
        executions=tuple(filter(None, (generated, measured, validated))),
    )


def _is_there(execution: Execution) -> bool:
    return all(artifact.uri.is_dir() for artifact in execution.outputs.values())


def _last(store: Store, component: str, inputs: dict[str, Artifact]) -> Execution | None:
    """Returns the execution of `component` on just these artifacts that was used last, or made."""
    used = filter(None, (store.last_used(component),))
    for execution in itertools.chain(used, store.completed(component)):
        read = execution.dependencies["inputs"]
        if all(read.get(key) == artifact.digest for key, artifact in inputs.items()):
            return execution
    return None


def _fates(account: dict[str, Any] | None) -> dict[str, Fate] | None:
    if account is None:
        return None
    names = [column.name for column in fields(Fate)]
    return {text: Fate(*(row[name] for name in names)) for text, row in account["classes"].items()}
