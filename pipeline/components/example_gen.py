"""ExampleGen: reads images from a source, checks them and writes sharded records of each split."""

import json
from collections import Counter
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline import files, sources
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, NonEmpty, Positive, parameters
from pipeline.records.manifest import Manifest

OUTPUTS = {"examples": "Examples"}

_COMMONEST = 10


@parameters
class Parameters:
    """Where the images come from and how they are split.

    Args:
        source: `"digits"` or the path of a folder of class folders.
        splits: The share of each split. An image goes where the SHA-256 of its pixels says, so
            that it stays in its split from run to run, whatever is added. A source whose folders
            name splits is split as it says.
        shards: The number of files per split; by default one for every 128 MiB.
        max_bad_fraction: The share of images that may be quarantined before the run stops.
    """

    source: NonEmpty = sources.DIGITS
    splits: dict[NonEmpty, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(
        default_factory=lambda: {"train": 0.8, "eval": 0.1, "test": 0.1}
    )
    shards: Positive | None = None
    max_bad_fraction: Fraction = 0.05

    @model_validator(mode="after")
    def _complete(self) -> "Parameters":
        if set(self.splits) != {"train", "eval", "test"}:
            raise ValueError(f"splits must be train, eval and test, not {sorted(self.splits)}")
        if abs(sum(self.splits.values()) - 1.0) > 1e-9:
            raise ValueError(f"the shares of splits must add up to 1, not {self.splits}")
        return self


def check(parameters: Parameters) -> None:
    """Raises UsageError when the source does not exist or holds no images."""
    sources.open_source(parameters.source)


def external(parameters: Parameters) -> str:
    """Returns a digest of the images themselves."""
    return sources.open_source(parameters.source).digest()


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/data_tfrecord-*`, `manifest.json` and the account of every image.

    `quarantine.jsonl` and `duplicates.jsonl` say of each image that was not written why;
    `account.json` counts, per class, seen = written + quarantined + duplicates.
    """
    from pipeline.beam import ingest

    source = sources.open_source(parameters.source)
    examples = outputs["examples"]
    ingested = ingest.run(source, parameters, examples.uri, context.progress)
    for name, entries in (
        ("quarantine", ingested.quarantined),
        ("duplicates", ingested.duplicates),
    ):
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        files.write_text(examples.uri / f"{name}.jsonl", lines)
    written = ingested.contents
    account = balance(source, written, ingested.quarantined, ingested.duplicates)
    files.write_json(examples.uri / "account.json", account)
    written.save(examples.uri)
    examples.properties.update(
        span=0,
        version=0,
        split_names=json.dumps(list(written.splits)),
        file_format=written.file_format,
        payload_format=written.payload_format,
    )
    counts = " + ".join(f"{split.examples:,} {name}" for name, split in written.splits.items())
    lost = "".join(
        f", {account['all'][kind]:,} {kind}"
        for kind in ("quarantined", "duplicates")
        if account["all"][kind]
    )
    return Outcome(
        f"{counts} images of {len(written.classes)} classes{lost}",
        refusal=_too_many(
            ingested.quarantined, account["all"]["seen"], parameters.max_bad_fraction
        ),
    )


def balance(
    source: sources.Source,
    written: Manifest,
    quarantined: list[dict[str, Any]],
    duplicates: list[dict[str, Any]],
) -> dict[str, dict[str, int]]:
    """Returns how many images of each class, and of all, were seen and what became of them.

    Raises:
        DataError: They do not add up: an image was lost or slipped in.
    """
    columns = {
        "seen": Counter(reference.text for part in source.parts for reference in part),
        "written": sum(
            (Counter(split.class_counts) for split in written.splits.values()), Counter()
        ),
        "quarantined": Counter(entry["class"] for entry in quarantined),
        "duplicates": Counter(entry["class"] for entry in duplicates),
    }
    rows = {
        text: {name: column[text] for name, column in columns.items()} for text in source.classes
    }
    rows = {"all": {name: column.total() for name, column in columns.items()}} | rows
    for text, row in rows.items():
        if row["seen"] != row["written"] + row["quarantined"] + row["duplicates"]:
            raise DataError(f"the account of {text!r} does not add up: {row}")
    return rows


def _too_many(quarantined: list[dict[str, Any]], seen: int, allowed: float) -> str | None:
    """Returns why the run may not go on, or None."""
    share = len(quarantined) / seen
    if share <= allowed:
        return None
    first = {}
    for entry in quarantined:
        first.setdefault(entry["reason"], entry["name"])
    commonest = Counter(entry["reason"] for entry in quarantined).most_common(_COMMONEST)
    shown = ", ".join(
        f"{reason} {count} times (first: {first[reason]})" for reason, count in commonest
    )
    return (
        f"{len(quarantined)} of {seen} images cannot be used ({share:.1%}; example_gen."
        f"max_bad_fraction is {allowed:.1%}): {shown}"
    )
