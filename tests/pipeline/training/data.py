"""Examples artifacts as ExampleGen writes them, made without it."""

from pathlib import Path

import numpy as np

from pipeline.orchestration.artifact import Artifact
from pipeline.records import examples, tfrecord
from pipeline.records.manifest import Manifest, Shard, Split
from tests.pipeline import builders

CLASSES = ("cat", "dog", "emu")


def example(number: int, size: int = 8, format_: str = "PNG") -> examples.ImageExample:
    """Returns a noisy picture that is the brighter the greater its label is."""
    label = number % len(CLASSES)
    pixels = builders.noise(number, size, size) // 2 + np.uint8(60 * label)
    return examples.ImageExample(
        encoded=builders.encode(pixels, format_),
        format=format_.lower(),
        height=size,
        width=size,
        label=label,
        text=CLASSES[label],
        filename=f"{number}.{format_.lower()}",
    )


def write(
    root: Path, shards: int = 2, images: list[examples.ImageExample] | None = None, **splits: int
) -> Artifact:
    """Writes an Examples artifact.

    Args:
        root: Its directory.
        shards: Shards in each split.
        images: The examples, which the splits take in their order; by default `example` makes
            them.
        **splits: Number of examples of each split.
    """
    root.mkdir(parents=True, exist_ok=True)
    rest = iter(images or map(example, range(sum(splits.values()))))
    found = {}
    for split, number in splits.items():
        chosen = [next(rest) for _ in range(number)]
        (root / f"Split-{split}").mkdir()
        written = []
        for shard in range(shards):
            file = f"Split-{split}/data_tfrecord-{shard:05}-of-{shards:05}"
            payloads = [examples.serialize(one) for one in chosen[shard::shards]]
            summary = tfrecord.write(root / file, payloads)
            written.append(
                Shard(
                    file=file,
                    records=summary.records,
                    bytes=summary.bytes,
                    crc32c=summary.crc32c,
                )
            )
        counts = {name: sum(one.text == name for one in chosen) for name in CLASSES}
        found[split] = Split(shards=tuple(written), class_counts=counts)
    Manifest(classes=CLASSES, splits=found).save(root)
    return Artifact("Examples", root)
