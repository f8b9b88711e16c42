"""StatisticsGen: what the examples of each split look like, as TensorFlow Metadata protos."""

import json
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import parameters
from pipeline.records import duplicates, manifest, protos

OUTPUTS = {"statistics": "ExampleStatistics"}


@parameters
class Parameters:
    """StatisticsGen has no parameters."""


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/FeatureStats.pb`, a binary `DatasetFeatureStatisticsList`, per split.

    `classes.json` lists the classes in the order of labels, those without examples too.
    """
    from pipeline.beam import statistics

    root = inputs["examples"].uri
    contents = manifest.load(root)
    manifest.verify(root, contents)
    artifact = outputs["statistics"]
    known = known_of(root, contents)
    statistics.run(root, contents, artifact.uri, context, known)
    # In a file: whoever reads the statistics has to run again when only the classes changed.
    files.write_json(artifact.uri / protos.CLASSES, contents.classes)
    artifact.properties.update(inputs["examples"].properties)
    return Outcome(f"{contents.examples:,} examples in {len(contents.splits)} splits")


def known_of(root: Path, contents: manifest.Manifest) -> dict[str, dict[str, float]]:
    """Returns what ExampleGen found out and the records do not show, for each split.

    Which share of the source could be used at all is known of all splits together: what cannot be
    decoded is in none.

    Args:
        root: The Examples artifact; of one without `account.json` and `leakage.json`, nothing is
            known.
        contents: Its manifest.

    Raises:
        DataError: One of the two files is damaged.
    """
    known: dict[str, dict[str, float]] = {split: {} for split in contents.splits}
    if (account := _read(root / "account.json")) is not None:
        for statistics in known.values():
            statistics[protos.SUPPORTED_FRACTION] = _supported(root, account["all"])
    for split, leaked in (_read(root / "leakage.json") or {}).items():
        found = {protos.LEAKED_EXACT: leaked["exact"], protos.LEAKED_NEAR: leaked["near"]}
        known.setdefault(split, {}).update(found)
    return known


def _supported(root: Path, row: dict[str, int]) -> float:
    """Returns the share of the images that can be decoded and used."""
    path = root / "quarantine.jsonl"
    conflicting = 0
    if row["quarantined"] and path.exists():
        with path.open(encoding="utf-8") as lines:
            # These are good pictures; it is their labels that contradict each other.
            conflicting = sum(json.loads(line)["reason"] == duplicates.CONFLICT for line in lines)
    return 1 - (row["quarantined"] - conflicting) / max(row["seen"], 1)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(f"{path}: not JSON; run ExampleGen again") from None
