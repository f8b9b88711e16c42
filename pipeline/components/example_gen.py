"""ExampleGen: reads images from a source, checks them and writes sharded records of each split."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline import files, sources
from pipeline.errors import DataError, UsageError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, LocalPath, NonEmpty, NonNegative, Positive, parameters
from pipeline.records import images

if TYPE_CHECKING:
    from pipeline.beam import ingest

OUTPUTS = {"examples": "Examples"}

_COMMONEST = 10

Byte = Annotated[int, Field(ge=0, le=255)]
# Beyond a quarter of the hash, everything looks like everything.
Bits = Annotated[int, Field(ge=0, le=16)]


@parameters
class Parameters:
    """Where the images come from, what is refused, and how they are split.

    Args:
        source: `"digits"`, the path of a folder of class folders, and what else
            `pipeline.sources.open_source` takes.
        span: The span to read where `source` holds `{SPAN}`; None for the latest.
        tfds_manual_dir: Where files lie that TensorFlow Datasets would else download.
        tfds_data_dir: Where TensorFlow Datasets keeps prepared data sets; None for its own place.
        splits: The share of each split. An image goes where the SHA-256 of its pixels says, or
            that of its group, so that it stays in its split from run to run, whatever is added.
        official_splits: What happens to the splits that the source itself has. `"keep"`: every
            image stays where it is, copies are only reported; `"clean"`: copies and
            contradictions go as in other data; `"ignore"`: they are split anew.
        shards: The number of files per split; by default one for every 128 MiB.
        short_side: Larger images are shrunk to so many pixels on the shorter side.
        background: RGB behind transparent pixels.
        jpeg_quality: Of images that have to be written as JPEG anew.
        max_pixels: Images of more pixels are refused.
        max_side: Images higher or wider than so many pixels are refused.
        max_bytes: Larger files are refused.
        near: Images whose perceptual hashes differ in no more than so many of 64 bits are reported
            as near duplicates; None to seek none.
        drop_near: Of such images of one class, within so many bits, all but one are dropped,
            after a look at their pixels; None to drop none.
        max_bad_fraction: The share of images that may be quarantined before the run stops.
        allow_damaged_shards: Whether the run goes on where a TFRecord file is cut or damaged, so
            that nobody can say how many images are lost.
    """

    source: NonEmpty = sources.DIGITS
    span: NonNegative | None = None
    tfds_manual_dir: LocalPath | None = None
    tfds_data_dir: LocalPath | None = None
    splits: dict[NonEmpty, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(
        default_factory=lambda: {"train": 0.8, "eval": 0.1, "test": 0.1}
    )
    official_splits: Literal["keep", "clean", "ignore"] = "keep"
    shards: Positive | None = None
    short_side: Positive | None = None
    background: tuple[Byte, Byte, Byte] = images.RULES.background
    jpeg_quality: Annotated[int, Field(ge=1, le=95)] = images.RULES.jpeg_quality
    max_pixels: Annotated[int, Field(ge=1, le=images.MOST_PIXELS)] = images.RULES.max_pixels
    max_side: Positive = images.RULES.max_side
    max_bytes: Positive = images.RULES.max_bytes
    near: Bits | None = 4
    drop_near: Bits | None = None
    max_bad_fraction: Fraction = 0.05
    allow_damaged_shards: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "Parameters":
        if set(self.splits) != {"train", "eval", "test"}:
            raise ValueError(f"splits must be train, eval and test, not {sorted(self.splits)}")
        if abs(sum(self.splits.values()) - 1.0) > 1e-9:
            raise ValueError(f"the shares of splits must add up to 1, not {self.splits}")
        return self


def check(parameters: Parameters) -> None:
    """Raises UsageError when the source does not exist or holds no images."""
    _hand_on("external", parameters, _open(parameters))


def external(parameters: Parameters) -> str:
    """Returns a digest of the images themselves."""
    source = _taken("external", parameters)
    _hand_on("run", parameters, source)
    return source.digest()


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/data_tfrecord-*`, `manifest.json` and the account of every image.

    `quarantine.jsonl` and `duplicates.jsonl` say of each image that was not written why;
    `account.json` counts, per class, seen = written + quarantined + duplicates. `overlaps.jsonl`
    names the images that were written although they equal or resemble another, `leakage.json`
    counts those that have such a partner in the training split. What `tfds.load` needs lies below
    `tfds/`.
    """
    from pipeline.beam import workers

    if context.engine.is_local:
        workers.warm(context.workers)
    from pipeline.beam import ingest
    from pipeline.records import tfds_metadata

    source = _taken("run", parameters)
    for notice in source.notices:
        context.say(notice)
    examples = outputs["examples"]
    plan = _plan(parameters, source)
    if parameters.drop_near is not None and not plan.clean:
        context.say(
            "near duplicates are reported and not dropped, because the source's own splits are "
            "kept as they are; --set example_gen.official_splits=clean drops them"
        )
    ingested = ingest.run(source, plan, examples.uri, context)
    for name, entries in (
        ("quarantine", ingested.quarantined),
        ("duplicates", ingested.duplicates),
        ("overlaps", ingested.overlaps),
    ):
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        files.write_text(examples.uri / f"{name}.jsonl", lines)
    files.write_json(examples.uri / "leakage.json", ingested.leakage)
    account = balance(source, ingested)
    files.write_json(examples.uri / "account.json", account)
    written = ingested.contents
    written.save(examples.uri)
    tfds_metadata.write(examples.uri, context.name, written)
    examples.properties.update(
        span=source.span,
        version=source.version,
        split_names=json.dumps(list(written.splits)),
        official_splits=json.dumps(list(_official(parameters, source))),
        file_format=written.file_format,
        payload_format=written.payload_format,
    )
    return Outcome(
        _summary(ingested, account["all"]),
        refusal=_damaged(source, parameters)
        or _too_many(ingested.quarantined, account["all"]["seen"], parameters.max_bad_fraction),
    )


# What one step opened for the next of the same run: opening may mean to read all of it.
_handed_on: dict[str, tuple[Parameters, sources.Source]] = {}


def _hand_on(step: str, parameters: Parameters, source: sources.Source) -> None:
    _handed_on.clear()
    _handed_on[step] = parameters, source


def _taken(step: str, parameters: Parameters) -> sources.Source:
    """Returns the source that the step before has opened, or opens it: data may have changed."""
    owner, source = _handed_on.pop(step, (None, None))
    return source if owner is parameters else _open(parameters)


def _open(parameters: Parameters) -> sources.Source:
    source = sources.open_source(
        parameters.source,
        span=parameters.span,
        tfds_manual_dir=parameters.tfds_manual_dir,
        tfds_data_dir=parameters.tfds_data_dir,
    )
    for text in source.classes:
        if not _is_text(text):
            raise UsageError(
                f"data {parameters.source!r}: the name of the class {text!r} is not UTF-8, which "
                "the records and the served model need; rename it"
            )
    return source


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _official(parameters: Parameters, source: sources.Source) -> tuple[str, ...]:
    """Returns the splits of the source that are kept."""
    return () if parameters.official_splits == "ignore" else source.splits


def _plan(parameters: Parameters, source: sources.Source) -> "ingest.Plan":
    from pipeline.beam import ingest

    official = bool(_official(parameters, source))
    clean = not official or parameters.official_splits == "clean"
    return ingest.Plan(
        shares=parameters.splits,
        keep_splits=official,
        clean=clean,
        rules=images.Rules(
            background=parameters.background,
            short_side=parameters.short_side,
            jpeg_quality=parameters.jpeg_quality,
            max_pixels=parameters.max_pixels,
            max_side=parameters.max_side,
            max_bytes=parameters.max_bytes,
        ),
        shards=parameters.shards,
        near=parameters.near,
        drop_near=parameters.drop_near if clean else None,
    )


def _summary(ingested: "ingest.Ingested", counts: dict[str, int]) -> str:
    written = ingested.contents
    parts = [" + ".join(f"{split.examples:,} {name}" for name, split in written.splits.items())]
    parts[0] += f" images of {len(written.classes)} classes"
    parts += [f"{counts[kind]:,} {kind}" for kind in ("quarantined", "duplicates") if counts[kind]]
    kinds = Counter(entry["kind"] for entry in ingested.overlaps)
    if kinds["exact"]:
        parts.append(f"{kinds['exact']:,} copies kept")
    if kinds["near"]:
        parts.append(f"{kinds['near']:,} near duplicates")
    return ", ".join(parts)


def balance(source: sources.Source, ingested: "ingest.Ingested") -> dict[str, Any]:
    """Returns how many images of `all` and of each of the `classes` were seen, and their fate.

    Raises:
        DataError: They do not add up: an image was lost or slipped in.
    """
    splits = ingested.contents.splits.values()
    columns = {
        "seen": ingested.seen,
        "written": sum((Counter(split.class_counts) for split in splits), Counter()),
        "quarantined": Counter(entry["class"] for entry in ingested.quarantined),
        "duplicates": Counter(entry["class"] for entry in ingested.duplicates),
    }
    # What has no class has a row of its own, under the empty name.
    texts = dict.fromkeys((*source.classes, *sorted(columns["seen"])))
    rows = {text: {name: column[text] for name, column in columns.items()} for text in texts}
    total = {name: column.total() for name, column in columns.items()}
    for text, row in (*rows.items(), ("all", total)):
        if row["seen"] != row["written"] + row["quarantined"] + row["duplicates"]:
            raise DataError(f"the account of {text!r} does not add up: {row}")
    if total["seen"] != source.total:
        raise DataError(
            f"{source.name}: found {total['seen']:,} images where there should be "
            f"{source.total:,}; did somebody change the data meanwhile? run again"
        )
    return {"all": total, "classes": rows}


def _damaged(source: sources.Source, parameters: Parameters) -> str | None:
    """Returns why the run may not go on when files of the source are damaged, or None."""
    if not source.damaged or parameters.allow_damaged_shards:
        return None
    return (
        f"{len(source.damaged)} damaged files, of which nobody can say how many images are lost: "
        f"{'; '.join(source.damaged[:_COMMONEST])}; bring them again, or allow it with --set "
        "example_gen.allow_damaged_shards=true"
    )


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
