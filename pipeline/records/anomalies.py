"""Anomalies: what was found, how it is called, what was waived, and TensorFlow Metadata's proto."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

ERROR = "ERROR"
WARNING = "WARNING"

_INFO = anomalies_pb2.AnomalyInfo
_MEASUREMENT = anomalies_pb2.DriftSkewInfo.Measurement


@dataclass(frozen=True)
class Anomaly:
    """Something that the data of a split should not have.

    Args:
        split: Name of the split.
        code: What kind of thing it is, such as `"missing_class"`.
        kind: The same as TensorFlow Metadata calls it, such as `"CUSTOM_VALIDATION"`.
        short: The same in a few words.
        description: What was found and what was expected.
        feature: The feature that it is about; none when it is about the split.
        named: Whether the feature is part of the name.
        severity: `"ERROR"` stops the run, `"WARNING"` does not.
        waived: Whether it is an error that a person lets pass.
    """

    split: str
    code: str
    kind: str
    short: str
    description: str
    feature: str = ""
    named: bool = False
    severity: str = ERROR
    waived: bool = False

    @property
    def name(self) -> str:
        """What a person calls it, the same in every run: `split:code` or `split:code:feature`."""
        return f"{self.split}:{self.code}" + (f":{self.feature}" if self.named else "")

    def entry(self) -> dict[str, Any]:
        """Returns its entry in `anomalies.json`."""
        keys = ("split", "code", "feature", "severity", "description", "waived")
        values = asdict(self)
        return {"name": self.name, **{key: values[key] for key in keys}}


@dataclass(frozen=True)
class Drift:
    """How far a feature has moved since the previous span, too far or not.

    Args:
        feature: Its name.
        measure: `"L_INFTY"` or `"JENSEN_SHANNON_DIVERGENCE"`.
        value: The distance.
        threshold: What it may be at most, says the schema.
        chance: What chance alone hardly exceeds with so few examples.
    """

    feature: str
    measure: str
    value: float
    threshold: float
    chance: float

    @property
    def limit(self) -> float:
        """What the distance may be at most: what is below chance says nothing."""
        return max(self.threshold, self.chance)


def waive(
    found: Iterable[Anomaly], waivers: Sequence[str]
) -> tuple[list[Anomaly], tuple[str, ...]]:
    """Turns the errors that a person lets pass into warnings.

    Args:
        found: All anomalies.
        waivers: Codes, and names of single anomalies.

    Returns:
        The anomalies, and the waivers that match none of them.
    """
    decided = [
        replace(anomaly, severity=WARNING, waived=True)
        if anomaly.severity == ERROR and {anomaly.code, anomaly.name} & set(waivers)
        else anomaly
        for anomaly in found
    ]
    known = {text for anomaly in decided for text in (anomaly.code, anomaly.name)}
    return decided, tuple(waiver for waiver in waivers if waiver not in known)


def to_proto(
    found: Iterable[Anomaly], drifts: Iterable[Drift], schema: schema_pb2.Schema, empty: bool
) -> anomalies_pb2.Anomalies:
    """Returns the anomalies of one split as TensorFlow Data Validation writes them.

    Args:
        found: The anomalies of the split.
        drifts: How far its features have moved.
        schema: What it was compared with.
        empty: Whether the split has no examples.
    """
    message = anomalies_pb2.Anomalies(anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH)
    message.baseline.CopyFrom(schema)
    message.data_missing = empty
    for anomaly in found:
        if anomaly.feature:
            info = message.anomaly_info[anomaly.feature]
            info.path.step[:] = [anomaly.feature]
        else:
            info = message.dataset_anomaly_info
        info.reason.add(
            type=_INFO.Type.Value(anomaly.kind),
            short_description=anomaly.short,
            description=anomaly.description,
        )
        info.severity = max(info.severity, _INFO.Severity.Value(anomaly.severity))
        several = len(info.reason) > 1
        info.short_description = "several anomalies" if several else anomaly.short
        info.description = "; ".join(reason.description for reason in info.reason)
    for drift in drifts:
        info = message.drift_skew_info.add()
        info.path.step.append(drift.feature)
        info.drift_measurements.add(
            type=_MEASUREMENT.Type.Value(drift.measure), value=drift.value, threshold=drift.limit
        )
    return message
