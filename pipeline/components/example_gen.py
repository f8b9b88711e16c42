"""ExampleGen: reads images from a source, checks them and writes sharded records of each split."""

import json
from typing import Annotated

from pydantic import Field, model_validator

from pipeline import files
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, NonEmpty, Positive, parameters
from pipeline.records import sources

OUTPUTS = {"examples": "Examples"}

_SHOWN = 3


@parameters
class Parameters:
    """Where the images come from and how they are split.

    Args:
        source: `"digits"` or the path of a folder of class folders.
        splits: The share of each split. An image goes where the SHA-256 of its bytes says, so
            that it stays in its split from run to run and equal images share one. A source whose
            folders name splits is split as it says.
        shards: The number of files per split.
        max_rejected: The share of images that may be unreadable before the run stops.
    """

    source: NonEmpty = sources.DIGITS
    splits: dict[NonEmpty, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(
        default_factory=lambda: {"train": 0.8, "eval": 0.1, "test": 0.1}
    )
    shards: Positive = 1
    max_rejected: Fraction = 0.01

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
    return sources.content_digest(parameters.source)


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/data_tfrecord-*`, `manifest.json` and `rejected.jsonl`."""
    from pipeline.beam import ingest

    source = sources.open_source(parameters.source)
    examples = outputs["examples"]
    written, rejected = ingest.run(source, parameters, examples.uri, context.progress)

    files.write_text(
        examples.uri / "rejected.jsonl", "".join(json.dumps(entry) + "\n" for entry in rejected)
    )
    share = len(rejected) / len(source.references)
    if share > parameters.max_rejected:
        shown = ", ".join(f"{entry['name']} ({entry['reason']})" for entry in rejected[:_SHOWN])
        raise DataError(
            f"{len(rejected)} of {len(source.references)} images cannot be used ({share:.1%}; "
            f"max_rejected is {parameters.max_rejected:.1%}), such as {shown}"
        )
    written.save(examples.uri)
    examples.properties.update(
        span=0,
        version=0,
        split_names=json.dumps(list(written.splits)),
        file_format=written.file_format,
        payload_format=written.payload_format,
    )
    shards = sum(len(split.shards) for split in written.splits.values())
    counts = " + ".join(f"{split.examples:,} {name}" for name, split in written.splits.items())
    result = f"{counts} images of {len(written.classes)} classes in {shards} shards"
    return Outcome(result + (f", {len(rejected)} rejected" if rejected else ""))
