"""ExampleValidator: compares the statistics of each split with the schema, and stops the run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics

from pipeline import files
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, NonEmpty, parameters
from pipeline.records import anomalies, examples, protos, validation
from pipeline.records.anomalies import ERROR, Anomaly

OUTPUTS = {"anomalies": "ExampleAnomalies"}

_SHOWN = 10


@parameters
class Parameters:
    """What the data have to satisfy beyond the schema.

    Args:
        max_imbalance: How many times as many examples as any class of the training split another
            may have.
        max_leakage: The share of a split that may be in the training split as well.
        waive: Severe anomalies that do not stop the run: a code such as `"drift"`, or the name of
            a single one such as `"train:drift:image/bytes"`.
    """

    max_imbalance: Annotated[float, Field(ge=1.0)] = 100.0
    max_leakage: Fraction = 0.01
    waive: tuple[NonEmpty, ...] = ()


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/SchemaDiff.pb`, a binary `Anomalies` proto, per split.

    `anomalies.json` lists all of them by name. Refuses when there is a severe one that is not
    waived: nothing is trained on data that the schema does not allow.
    """
    schema = protos.read_schema(inputs["schema"])
    statistics = protos.read_statistics(inputs["statistics"])
    earlier = inputs.get("previous_statistics")
    previous = protos.read_statistics(earlier) if earlier else {}
    known = {*protos.class_names(earlier), *_seen(previous)} if earlier else set()
    properties = inputs["statistics"].properties
    splits = json.loads(properties["split_names"])
    # What a source does not have, nobody expects; what was split here may not be empty.
    expected = json.loads(properties.get("official_splits", "[]")) or splits
    artifact = outputs["anomalies"]
    found: list[Anomaly] = []
    drifts = {}
    for split in splits:
        check = validation.Check(
            split,
            statistics.get(split),
            schema,
            previous.get(split),
            known,
            split in expected,
            parameters.max_imbalance,
            parameters.max_leakage,
        )
        anomalous, drifts[split] = check.run()
        found += anomalous
    found, unused = anomalies.waive(found, parameters.waive)
    for split in splits:
        own = [anomaly for anomaly in found if anomaly.split == split]
        empty = split not in statistics
        content = anomalies.to_proto(own, drifts[split], schema, empty).SerializeToString(
            deterministic=True
        )
        files.write_bytes(artifact.uri / f"Split-{split}" / protos.ANOMALIES, content)
    files.write_json(artifact.uri / "anomalies.json", [anomaly.entry() for anomaly in found])
    severe = [anomaly for anomaly in found if anomaly.severity == ERROR]
    blessed = {split: int(all(a.split != split for a in severe)) for split in splits}
    artifact.properties["blessed"] = json.dumps(blessed)
    for anomaly in found:
        if anomaly.severity != ERROR:
            kind = "waived" if anomaly.waived else "warning"
            context.say(f"{kind}: {anomaly.name}: {anomaly.description}")
    for waiver in unused:
        context.say(f"--waive {waiver}: there is no such anomaly")
    span = f", compared with span {earlier.properties['span']}" if earlier else ""
    return Outcome(f"{_counted(found)} in {len(splits)} splits{span}", refusal=_refusal(severe))


def _seen(statistics: Mapping[str, DatasetFeatureStatistics]) -> Iterator[str]:
    """Yields the classes of which a split has examples."""
    for dataset in statistics.values():
        if text := protos.features(dataset).get(examples.TEXT):
            yield from protos.frequencies(text)


def _counted(found: Sequence[Anomaly]) -> str:
    """Returns how many anomalies there are of each severity."""
    severe = sum(anomaly.severity == ERROR for anomaly in found)
    waived = sum(anomaly.waived for anomaly in found)
    mild = len(found) - severe - waived
    parts = (
        f"{severe} severe {'anomaly' if severe == 1 else 'anomalies'}" if severe else "",
        f"{waived} waived" if waived else "",
        f"{mild} {'warning' if mild == 1 else 'warnings'}" if mild else "",
    )
    return ", ".join(filter(None, parts)) or "no anomalies"


def _refusal(severe: Sequence[Anomaly]) -> str | None:
    """Returns what stops the run and how to let it pass, or None."""
    if not severe:
        return None
    shown = "; ".join(f"{a.name}: {a.description}" for a in severe[:_SHOWN])
    names = [anomaly.name for anomaly in severe]
    if len(severe) > _SHOWN:
        shown += f"; and {len(severe) - _SHOWN} more (anomalies.json)"
        names = sorted({anomaly.code for anomaly in severe})
    waivers = " ".join(f"--waive {name}" for name in names)
    plural = "anomaly" if len(severe) == 1 else "anomalies"
    return f"{len(severe)} severe {plural}: {shown}; to run nevertheless: {waivers}"
