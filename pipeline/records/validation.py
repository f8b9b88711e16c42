"""Compares the statistics of a split with the schema, and with those of the previous span."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipeline.records import drift, examples, protos
from pipeline.records.anomalies import ERROR, WARNING, Anomaly, Drift

TRAIN = "train"

_SHOWN = 10
_SINGLE = 1e-6

# Features that TensorFlow Data Validation does not look at either.
_IGNORED = {
    schema_pb2.PLANNED,
    schema_pb2.ALPHA,
    schema_pb2.DEPRECATED,
    schema_pb2.DEBUG_ONLY,
    schema_pb2.DISABLED,
}
_STATISTICS = statistics_pb2.FeatureNameStatistics
_TYPES = {
    schema_pb2.INT: (_STATISTICS.INT,),
    schema_pb2.FLOAT: (_STATISTICS.FLOAT,),
    schema_pb2.BYTES: (_STATISTICS.STRING, _STATISTICS.BYTES),
}


@dataclass(frozen=True)
class Check:
    """One split and what it is held against.

    Args:
        split: Its name.
        dataset: Its statistics; None when it has no examples.
        schema: What it has to look like.
        previous: The statistics of the same split in the previous span, where there is one.
        known: The classes that the previous span had in any split.
        expected: Whether it has to have examples.
        max_imbalance: Greatest number of examples of a class for every one of another class.
        max_leakage: Greatest share of the split of which the training split has a copy.
    """

    split: str
    dataset: statistics_pb2.DatasetFeatureStatistics | None
    schema: schema_pb2.Schema
    previous: statistics_pb2.DatasetFeatureStatistics | None = None
    known: Collection[str] = ()
    expected: bool = True
    max_imbalance: float = 100.0
    max_leakage: float = 0.01

    def run(self) -> tuple[list[Anomaly], list[Drift]]:
        """Returns the anomalies, and how far each feature that has a comparator has moved."""
        found = list(self._examples())
        drifts: list[Drift] = []
        if self.dataset is None:
            return found, drifts
        present = protos.features(self.dataset)
        before = protos.features(self.previous) if self.previous is not None else {}
        for feature in self.schema.feature:
            if _put_aside(feature):
                continue
            statistics = present.get(feature.name)
            if statistics is None:
                found += self._missing(feature)
                continue
            found += self._presence(feature, statistics)
            if statistics.type not in _TYPES.get(feature.type, (statistics.type,)):
                found.append(self._wrong_type(feature, statistics))
                continue
            found += self._values(feature, statistics)
            found += self._images(feature, statistics)
            if feature.name in before:
                for moved, words in self._distances(feature, statistics, before[feature.name]):
                    drifts.append(moved)
                    found += self._drift(feature, moved, words)
        found += self._unsure(drifts)
        if examples.TEXT in present:
            classes = protos.frequencies(present[examples.TEXT])
            if examples.TEXT in before:
                found += self._classes(classes, protos.frequencies(before[examples.TEXT]))
            found += self._balance(classes)
        if examples.IMAGE in present:
            found += self._leakage(present[examples.IMAGE])
        return found, drifts

    def _examples(self) -> Iterator[Anomaly]:
        number = self.dataset.num_examples if self.dataset is not None else 0
        limits = self.schema.dataset_constraints
        least = limits.min_examples_count if limits.HasField("min_examples_count") else 1
        had = self.previous.num_examples if self.previous is not None else 0
        if had:
            least = max(least, 1)
        if number < least and (number or self.expected or had):
            yield Anomaly(
                self.split,
                "too_few_examples",
                "DATASET_LOW_NUM_EXAMPLES",
                "too few examples",
                f"{number} examples; expected at least {least}"
                + (f"; the previous span had {had}" if had and not number else ""),
            )
        if limits.HasField("max_examples_count") and number > limits.max_examples_count:
            yield Anomaly(
                self.split,
                "too_many_examples",
                "DATASET_HIGH_NUM_EXAMPLES",
                "too many examples",
                f"{number} examples; expected at most {limits.max_examples_count}",
            )

    def _missing(self, feature: schema_pb2.Feature) -> Iterator[Anomaly]:
        if feature.presence.min_fraction > 0 or feature.presence.min_count > 0:
            yield self._of(
                feature,
                "missing_feature",
                "SCHEMA_MISSING_COLUMN",
                "missing",
                "missing; the schema asks for it",
            )

    def _wrong_type(
        self, feature: schema_pb2.Feature, statistics: statistics_pb2.FeatureNameStatistics
    ) -> Anomaly:
        return self._of(
            feature,
            "wrong_type",
            "UNEXPECTED_DATA_TYPE",
            "wrong type",
            f"of type {_STATISTICS.Type.Name(statistics.type)}; expected "
            f"{schema_pb2.FeatureType.Name(feature.type)}",
        )

    def _presence(
        self, feature: schema_pb2.Feature, statistics: statistics_pb2.FeatureNameStatistics
    ) -> Iterator[Anomaly]:
        common = protos.common(statistics)
        number = common.num_non_missing
        share = number / self.dataset.num_examples
        low = partial(self._of, feature, "low_presence")
        if share < feature.presence.min_fraction:
            yield low(
                "FEATURE_TYPE_LOW_FRACTION_PRESENT",
                "missing in some examples",
                f"in {share:.1%} of the examples; expected {feature.presence.min_fraction:.1%}",
            )
        elif number < feature.presence.min_count:
            yield low(
                "FEATURE_TYPE_LOW_NUMBER_PRESENT",
                "in too few examples",
                f"in {number} examples; expected at least {feature.presence.min_count}",
            )
        wrong = partial(self._of, feature, "wrong_number_of_values")
        least, greatest = common.min_num_values, common.max_num_values
        allowed = feature.value_count
        if allowed.HasField("min") and least < allowed.min:
            yield wrong(
                "FEATURE_TYPE_LOW_NUMBER_VALUES",
                "too few values",
                f"{least} values in an example; expected at least {allowed.min}",
            )
        if allowed.HasField("max") and greatest > allowed.max:
            yield wrong(
                "FEATURE_TYPE_HIGH_NUMBER_VALUES",
                "too many values",
                f"{greatest} values in an example; expected at most {allowed.max}",
            )

    def _values(
        self, feature: schema_pb2.Feature, statistics: statistics_pb2.FeatureNameStatistics
    ) -> Iterator[Anomaly]:
        if feature.HasField("string_domain"):
            yield from self._strings(feature, protos.frequencies(statistics).keys())
        for domain, kind in (
            ("int_domain", "INT_TYPE_{}_INT"),
            ("float_domain", "FLOAT_TYPE_{}_FLOAT"),
        ):
            if not feature.HasField(domain):
                continue
            limits, seen = getattr(feature, domain), statistics.num_stats
            out = partial(self._of, feature, "out_of_range")
            if limits.HasField("min") and seen.min < limits.min:
                description = f"found {seen.min:g}; expected at least {limits.min:g}"
                yield out(kind.format("SMALL"), "too small", description)
            if limits.HasField("max") and seen.max > limits.max:
                description = f"found {seen.max:g}; expected at most {limits.max:g}"
                yield out(kind.format("BIG"), "too large", description)

    def _strings(self, feature: schema_pb2.Feature, seen: Collection[str]) -> Iterator[Anomaly]:
        allowed = feature.string_domain.value
        of_class = feature.name == examples.TEXT
        if unexpected := sorted(set(seen) - set(allowed)):
            yield self._of(
                feature,
                "unknown_class" if of_class else "unexpected_values",
                "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
                "unexpected values",
                f"found {_listed(unexpected)}; expected {_listed(allowed)}",
                named=not of_class,
            )
        if of_class and (missing := [value for value in allowed if value not in seen]):
            yield self._of(
                feature,
                "missing_class",
                "CUSTOM_VALIDATION",
                "missing classes",
                f"no example of {_listed(missing)}; the schema lists {len(allowed)} classes",
                named=False,
                severity=ERROR if self.split == TRAIN else WARNING,
            )

    def _images(
        self, feature: schema_pb2.Feature, statistics: statistics_pb2.FeatureNameStatistics
    ) -> Iterator[Anomaly]:
        if not feature.HasField("image_domain"):
            return
        limits = feature.image_domain
        share = self._supported(statistics)
        # The schema has it in single precision.
        if share < limits.minimum_supported_image_fraction - _SINGLE:
            yield self._of(
                feature,
                "unsupported_images",
                "LOW_SUPPORTED_IMAGE_FRACTION",
                "images that cannot be decoded",
                f"{share:.1%} of the images can be decoded; expected at least "
                f"{limits.minimum_supported_image_fraction:.1%}, which is image_domain."
                "minimum_supported_image_fraction in the schema; example_gen.max_bad_fraction is "
                "another limit",
                named=False,
            )
        greatest = statistics.bytes_stats.max_num_bytes_int
        if limits.HasField("max_image_byte_size") and greatest > limits.max_image_byte_size:
            yield self._of(
                feature,
                "too_many_bytes",
                "MAX_IMAGE_BYTE_SIZE_EXCEEDED",
                "too large images",
                f"an image of {greatest} bytes; expected at most {limits.max_image_byte_size}",
                named=False,
            )

    def _supported(self, statistics: statistics_pb2.FeatureNameStatistics) -> float:
        """Returns the share of the images that can be decoded, in the source as in the records."""
        custom = protos.custom(statistics)
        buckets = custom[protos.FORMATS].rank_histogram.buckets if protos.FORMATS in custom else ()
        counts = {bucket.label: bucket.sample_count for bucket in buckets}
        unknown = counts.get(protos.UNKNOWN_FORMAT, 0)
        share = 1 - unknown / sum(counts.values()) if counts else 1.0
        # What the source lost is in no split; it is said once.
        if self.split == TRAIN and protos.SUPPORTED_FRACTION in custom:
            share = min(share, custom[protos.SUPPORTED_FRACTION].num)
        return share

    def _distances(
        self,
        feature: schema_pb2.Feature,
        statistics: statistics_pb2.FeatureNameStatistics,
        before: statistics_pb2.FeatureNameStatistics,
    ) -> Iterator[tuple[Drift, str]]:
        """Yields how far a feature has moved by each of its comparators, and that in words."""
        comparator = feature.drift_comparator
        one, other = protos.frequencies(statistics), protos.frequencies(before)
        if comparator.HasField("infinity_norm") and one and other:
            value, most = drift.l_infinity(one, other)
            threshold = comparator.infinity_norm.threshold
            chance = drift.l_infinity_by_chance(one, other)
            words = f"the share of {most!r} differs by {value:.3f}"
            yield Drift(feature.name, "L_INFTY", value, threshold, chance), words
        one, other = protos.histogram(statistics), protos.histogram(before)
        if comparator.HasField("jensen_shannon_divergence") and one and other:
            value = drift.jensen_shannon(one, other)
            threshold = comparator.jensen_shannon_divergence.threshold
            chance = drift.jensen_shannon_by_chance(one, other)
            words = f"the Jensen-Shannon divergence is {value:.3f}"
            yield Drift(feature.name, "JENSEN_SHANNON_DIVERGENCE", value, threshold, chance), words

    def _drift(self, feature: schema_pb2.Feature, moved: Drift, words: str) -> Iterator[Anomaly]:
        if moved.value > moved.limit:
            limit = f"{moved.limit:.3f}"
            if moved.chance > moved.threshold:
                limit += f", as chance may take it; the schema says {moved.threshold:.3f}"
            yield self._of(
                feature,
                "drift",
                f"COMPARATOR_{moved.measure}_HIGH",
                "moved since the previous span",
                f"moved since the previous span: {words}; expected at most {limit}",
            )

    def _unsure(self, drifts: Collection[Drift]) -> Iterator[Anomaly]:
        """Yields one warning of all that moved further than the schema allows, perhaps by chance."""
        unsure = [moved for moved in drifts if moved.threshold < moved.value <= moved.limit]
        if unsure:
            shown = "; ".join(
                f"{moved.feature} {moved.value:.3f} (schema {moved.threshold:.3f}, chance "
                f"{moved.chance:.3f})"
                for moved in unsure
            )
            yield Anomaly(
                self.split,
                "drift_unsure",
                "CUSTOM_VALIDATION",
                "too few examples to tell drift from chance",
                "moved since the previous span further than the schema allows, but no further than "
                f"chance takes {self.dataset.num_examples} and {self.previous.num_examples} "
                f"examples: {shown}",
                severity=WARNING,
            )

    def _classes(self, seen: Collection[str], before: Collection[str]) -> Iterator[Anomaly]:
        """Compares the classes with the previous span; what the schema reports is left to it."""
        if not seen or not before:
            return
        listed = {
            value
            for feature in self.schema.feature
            if feature.name == examples.TEXT and not _put_aside(feature)
            for value in feature.string_domain.value
        }
        of_class = partial(
            Anomaly, self.split, kind="CUSTOM_VALIDATION", feature=examples.TEXT, named=False
        )
        if vanished := sorted(set(before) - set(seen) - listed):
            yield of_class(
                "missing_class",
                short="vanished classes",
                description=f"{examples.TEXT}: no example of {_listed(vanished)}; the previous "
                f"span had {len(before)} classes",
                severity=ERROR if self.split == TRAIN else WARNING,
            )
        new = set(seen) - set(before) - set(self.known)
        if new := sorted(new & listed if listed else new):
            yield of_class(
                "new_class",
                short="new classes",
                description=f"{examples.TEXT}: found {_listed(new)}, of which the previous span "
                "had none",
                severity=WARNING,
            )

    def _balance(self, counts: dict[str, int]) -> Iterator[Anomaly]:
        if self.split != TRAIN or not counts:
            return
        ranked = sorted(counts, key=lambda value: (counts[value], value))
        least, most = ranked[0], ranked[-1]
        ratio = counts[most] / counts[least]
        if ratio > self.max_imbalance:
            yield Anomaly(
                self.split,
                "imbalance",
                "CUSTOM_VALIDATION",
                "unequal classes",
                f"{counts[most]} examples of {most!r} but {counts[least]} of {least!r}, "
                f"{ratio:.0f} times as many; expected at most {self.max_imbalance:g} times",
                examples.TEXT,
            )

    def _leakage(self, statistics: statistics_pb2.FeatureNameStatistics) -> Iterator[Anomaly]:
        custom = protos.custom(statistics)
        for name, code, alike in (
            (protos.LEAKED_EXACT, "leakage", "the same picture"),
            (protos.LEAKED_NEAR, "near_leakage", "a picture that looks alike"),
        ):
            if name not in custom or not custom[name].num:
                continue
            number = round(custom[name].num)
            share = number / self.dataset.num_examples
            severe = code == "leakage" and share > self.max_leakage
            yield Anomaly(
                self.split,
                code,
                "CUSTOM_VALIDATION",
                "pictures of the training split",
                f"the training split has {alike} for {number} of {self.dataset.num_examples} "
                f"images ({share:.2%})"
                + (f"; expected at most {self.max_leakage:.2%}" if severe else ""),
                examples.IMAGE,
                severity=ERROR if severe else WARNING,
            )

    def _of(
        self,
        feature: schema_pb2.Feature,
        code: str,
        kind: str,
        short: str,
        description: str,
        named: bool = True,
        severity: str = ERROR,
    ) -> Anomaly:
        description = f"{feature.name}: {description}"
        return Anomaly(self.split, code, kind, short, description, feature.name, named, severity)


def _put_aside(feature: schema_pb2.Feature) -> bool:
    return feature.deprecated or feature.lifecycle_stage in _IGNORED


def _listed(values: Collection[str]) -> str:
    shown = ", ".join(list(values)[:_SHOWN])
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown
