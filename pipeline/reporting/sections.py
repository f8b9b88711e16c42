"""What each part of the page about the data shows, chosen and limited, without any markup."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from pipeline.records import duplicates, examples, protos
from pipeline.records.manifest import Manifest
from pipeline.reporting import charts, explanations
from pipeline.reporting.gather import Entry, Fate
from pipeline.reporting.page import BYTES
from pipeline.reporting.pictures import Thumbnail

PIXELS = "px"

# How much is shown of each kind before "and N more".
OF_A_REASON = 24
PAIRS = 24
_TOGETHER = 6

# Feature, title, unit, whether by doublings, explanation.
_MEASURES = (
    (examples.WIDTH, "Width", PIXELS, True, ""),
    (examples.HEIGHT, "Height", PIXELS, True, ""),
    ("image/aspect_ratio", "Aspect ratio", "", True, "width over height"),
    ("image/bytes", "Stored size", BYTES, True, ""),
    ("image/brightness", "Brightness", "", False, "mean of the luma, 0 to 255"),
    ("image/contrast", "Contrast", "", False, "standard deviation of the luma"),
    ("image/sharpness", "Sharpness", "", True, "variance of the Laplacian; low is blurred"),
)

_OF_SIZE = (examples.WIDTH, examples.HEIGHT, "image/aspect_ratio")

Look = Callable[[str], Thumbnail | None]
Statistics = dict[str, statistics_pb2.DatasetFeatureStatistics]


@dataclass(frozen=True)
class Row:
    """A class: what became of its images, and how many each split has."""

    text: str
    fate: Fate
    splits: dict[str, int]


@dataclass(frozen=True)
class Item:
    """An image: its name, its class and split as far as known, its picture, and a remark."""

    name: str
    text: str
    thumbnail: Thumbnail | None
    split: str = ""
    note: str = ""


@dataclass(frozen=True)
class Heap:
    """Quarantined images of one reason; `items` are the first of `count`."""

    code: str
    reason: explanations.Reason
    count: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Group:
    """Images that are equal or look alike; `more` of them are not shown."""

    items: tuple[Item, ...]
    note: str = ""
    more: int = 0


@dataclass(frozen=True)
class Groups:
    """The first of `count` groups."""

    count: int
    shown: tuple[Group, ...]


@dataclass(frozen=True)
class Measure:
    """A measure of the images: its histograms, and the moments of each split.

    Args:
        title: Its name.
        unit: `PIXELS`, `BYTES` or nothing.
        note: What it means.
        overlay: The histograms, or None where all values are the same.
        moments: Split to `NumericStatistics`.
        of_size: Whether it follows from width and height.
    """

    title: str
    unit: str
    note: str
    overlay: charts.Overlay | None
    moments: dict[str, statistics_pb2.NumericStatistics]
    of_size: bool


@dataclass(frozen=True)
class Colour:
    """Mean and standard deviation of red, green and blue in one split, 0 to 255 each."""

    split: str
    means: tuple[float, ...]
    deviations: tuple[float, ...]


def rows(contents: Manifest, fates: dict[str, Fate] | None) -> list[Row]:
    """Returns the classes in label order, and behind them what has no class."""
    found = []
    for text in dict.fromkeys((*contents.classes, *(fates or ()))):
        splits = {name: split.class_counts.get(text, 0) for name, split in contents.splits.items()}
        written = sum(splits.values())
        fate = fates[text] if fates else Fate(written, written, 0, 0)
        found.append(Row(text, fate, splits))
    return found


def total(found: Iterable[Row]) -> Fate:
    """Returns what became of the images of all classes."""
    return sum((row.fate for row in found), Fate(0, 0, 0, 0))


def heaps(quarantined: Iterable[Entry], look: Look, each: int = OF_A_REASON) -> list[Heap]:
    """Returns the quarantined images by reason, the commonest reason first.

    Contradicting labels come without pictures here: those are shown together elsewhere.

    Args:
        quarantined: The entries of the list.
        look: Returns the small picture of an image.
        each: How many images of each reason are shown.
    """
    by_reason: dict[str, list[Entry]] = defaultdict(list)
    for entry in quarantined:
        by_reason[entry["reason"]].append(entry)
    found = []
    for code, entries in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        reason = explanations.explain(code)
        items = tuple(
            Item(e["name"], e["class"], look(e["name"]) if reason.harmless else None)
            for e in entries[:each]
            if code != duplicates.CONFLICT
        )
        found.append(Heap(code, reason, len(entries), items))
    return found


def conflicts(quarantined: Iterable[Entry], look: Look) -> Groups:
    """Returns the images of equal pixels and different classes, those of one picture together."""
    by_picture: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in quarantined:
        if entry["reason"] == duplicates.CONFLICT:
            by_picture[entry["classes"], entry.get("pixels", entry["sha256"])].append(entry)
    shown = []
    for (labels, _), entries in list(by_picture.items())[:PAIRS]:
        items = [Item(e["name"], e["class"], look(e["name"])) for e in entries[:_TOGETHER]]
        # Files of other bytes and the same pixels are not always known to belong together.
        note = f"the same picture is in {labels}" if len(items) == 1 else ""
        shown.append(Group(tuple(items), note, len(entries) - len(items)))
    return Groups(len(by_picture), tuple(shown))


def copies(dropped: Sequence[Entry], look: Look) -> Groups:
    """Returns the images that were dropped, each beside the one that was kept for it."""
    shown = tuple(
        Group(
            (
                Item(entry["name"], entry["class"], look(entry["name"]), note="dropped"),
                Item(entry["kept"], entry["class"], look(entry["kept"]), note="kept"),
            ),
            _alike(entry["reason"] == duplicates.DUPLICATE, entry.get("distance")),
        )
        for entry in dropped[:PAIRS]
    )
    return Groups(len(dropped), shown)


def overlaps(kept: Sequence[Entry], look: Look) -> Groups:
    """Returns pairs that were kept, those first that differ in class, then those across splits."""
    ranked = sorted(
        kept,
        key=lambda entry: (
            entry["class"] == entry["other_class"],
            entry["split"] == entry["other_split"],
            entry["distance"],
            entry["name"],
            entry["other"],
        ),
    )
    shown = tuple(
        Group(
            (
                Item(e["name"], e["class"], look(e["name"]), e["split"]),
                Item(e["other"], e["other_class"], look(e["other"]), e["other_split"]),
            ),
            _alike(e["kind"] == duplicates.EXACT, e["distance"]),
        )
        for e in ranked[:PAIRS]
    )
    return Groups(len(kept), shown)


def _alike(exact: bool, distance: int | None) -> str:
    if exact:
        return "equal pixels"
    return "looks alike" if distance is None else f"looks alike: {distance} of 64 bits differ"


def measures(statistics: Statistics) -> list[Measure]:
    """Returns what was measured of the images, without what no split has."""
    found = []
    features = {split: protos.features(dataset) for split, dataset in statistics.items()}
    for name, title, unit, doublings, note in _MEASURES:
        moments = {split: own[name].num_stats for split, own in features.items() if name in own}
        if not moments:
            continue
        least, greatest = (
            min(stats.min for stats in moments.values()),
            max(stats.max for stats in moments.values()),
        )
        histograms = {split: charts.histogram(stats) for split, stats in moments.items()}
        overlay = charts.overlay(histograms, doublings) if least < greatest else None
        found.append(Measure(title, unit, note, overlay, moments, name in _OF_SIZE))
    return found


def formats(statistics: Statistics) -> Counter[str]:
    """Returns how many stored images there are of each format."""
    found: Counter[str] = Counter()
    for dataset in statistics.values():
        image = protos.features(dataset).get(examples.IMAGE)
        known = protos.custom(image) if image is not None else {}
        if protos.FORMATS in known:
            for bucket in known[protos.FORMATS].rank_histogram.buckets:
                found[bucket.label] += round(bucket.sample_count)
    return found


def colours(statistics: Statistics) -> list[Colour]:
    """Returns the moments of the channels of each split that has them."""
    found = []
    for split, dataset in statistics.items():
        image = protos.features(dataset).get(examples.IMAGE)
        known = protos.custom(image) if image is not None else {}
        if protos.CHANNEL_MEAN + protos.CHANNELS[0] not in known:
            continue
        means, deviations = (
            tuple(known[prefix + channel].num for channel in protos.CHANNELS)
            for prefix in (protos.CHANNEL_MEAN, protos.CHANNEL_STD)
        )
        found.append(Colour(split, means, deviations))
    return found


def ranked_anomalies(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Returns the anomalies with advice, those first that stop the run, then the other warnings."""
    return [
        {
            **entry,
            "stops": entry["severity"] == "ERROR",
            "advice": explanations.advise(entry["code"]),
        }
        for entry in sorted(
            entries, key=lambda e: (e["severity"] != "ERROR", e["waived"], e["name"])
        )
    ]
