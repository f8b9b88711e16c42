"""The model card of a run (Mitchell et al., FAT* 2019), as far as data and figures can tell it.

What only a person knows (what the model is for, licences) comes from the section `card` of the
configuration, or is said to be not stated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation import metrics
from pipeline.evaluation.assessment import Slice
from pipeline.evaluation.calibration import Bin
from pipeline.evaluation.verdict import Verdict
from pipeline.records import examples, protos
from pipeline.reporting import evaluation, reading
from pipeline.reporting.evaluated import Evaluated
from pipeline.reporting.evaluation import figure, interval
from pipeline.reporting.gather import Data
from pipeline.reporting.page import count, number
from pipeline.reporting.training_curves import Course

NOT_STATED = "not stated"

_CLASSES_NAMED = 20
_SLICES_NAMED = 3
_TRAIN, _TEST = "train", "test"

# Fields of a recipe that change images or mix them, with the value that leaves them as they are.
_AUGMENTATION = {
    "random_crop": None,
    "random_shift": 0,
    "random_flip": False,
    "random_rotation": 0.0,
    "random_zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "lighting": 0.0,
    "rand_augment": 0,
    "random_erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}
_REGULARISATION = {
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "drop_path_rate": 0.0,
    "dropout_rate": 0.0,
    "ema_decay": 0.0,
    "clip_norm": None,
}


@dataclass(frozen=True)
class Known:
    """What a model card is written from; None for what the run has not come to.

    Args:
        config: The effective configuration of the run.
        data: What is known of the data.
        course: The course of the training.
        model: Properties of the Model artifact.
        evaluated: What the evaluation found.
        verdict: What that means.
        pushed: Properties of the PushedModel artifact.
    """

    config: Mapping[str, Any]
    data: Data | None = None
    course: Course | None = None
    model: Mapping[str, Any] | None = None
    evaluated: Evaluated | None = None
    verdict: Verdict | None = None
    pushed: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Part:
    """A part of the card.

    Args:
        title: Its heading.
        facts: Name and text of each fact.
        sentences: What is said in sentences.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] = ()


def write(known: Known) -> list[Part]:
    """Returns the parts of the card; those that nothing is known of say so."""
    return [
        Part("Model", tuple(_model(known))),
        Part("Intended use", sentences=tuple(_use(known))),
        Part("Data", tuple(_data(known))),
        Part("Recipe", tuple(_recipe(known))),
        Part("Metrics", tuple(_metrics(known))),
        Part("Limits", sentences=tuple(_limits(known))),
        Part("Licence", tuple(_licences(known))),
    ]


def _model(known: Known) -> Iterator[tuple[str, str]]:
    trainer = known.config.get("trainer", {})
    # Those of the training, which a search may have found.
    given = (known.model or {}).get("arguments", trainer.get("model_arguments", {}))
    changes = ", ".join(f"{k}={v}" for k, v in given.items())
    network = trainer.get("model", NOT_STATED)
    yield "network", f"{network} with {changes}" if changes else network
    if known.model is None:
        yield "state", "not trained in this run"
        return
    yield "parameters", number(known.model["parameters"])
    expects = known.model.get("preprocessing")
    if expects:
        yield "input", f"RGB images, resized to {expects['height']} × {expects['width']} px"
    if known.course and (begins := known.course.settings.get("begins_with")):
        yield "begins with", begins
    if known.pushed:
        number_, place = known.pushed["pushed_version"], known.pushed["pushed_destination"]
        yield "version", f"{number_} in {place}, as {known.pushed['label']}"
        yield "SHA-256", known.pushed["digest"]
    else:
        yield "version", "not pushed by this run"


def _use(known: Known) -> Iterator[str]:
    words = _words(known)
    if stated := words.get("intended_use"):
        yield stated
    classes = known.data.contents.classes if known.data else ()
    if classes:
        named = ", ".join(text or "no class" for text in classes[:_CLASSES_NAMED])
        more = f" and {number(len(classes) - _CLASSES_NAMED)} more"
        named += more if len(classes) > _CLASSES_NAMED else ""
        yield f"Tells which of {number(len(classes))} classes one image shows: {named}."
        yield (
            "It answers with one of these for any image, also for one that shows none of them, and "
            "was made for images like those of its source."
        )
    if not stated:
        yield f"What it may be used for beyond that is {NOT_STATED} (card.intended_use)."


def _data(known: Known) -> Iterator[tuple[str, str]]:
    data = known.data
    if data is None:
        yield "source", known.config.get("example_gen", {}).get("source", NOT_STATED)
        yield "images", "none were read in this run"
        return
    yield (
        "source",
        f"{data.parameters['source']}" + (f", span {data.span}" if data.span is not None else ""),
    )
    yield (
        "images",
        f"{number(data.contents.examples)}: "
        + ", ".join(
            f"{number(split.examples)} {name}" for name, split in data.contents.splits.items()
        ),
    )
    yield "classes", number(len(data.contents.classes))
    if sizes := _sizes(data):
        yield "sizes", sizes
    if data.fates is not None:
        refused = sum(fate.quarantined for fate in data.fates.values())
        copies = sum(fate.duplicates for fate in data.fates.values())
        yield "left out", f"{number(refused)} unusable, {number(copies)} copies"


def _recipe(known: Known) -> Iterator[tuple[str, str]]:
    settings = known.course.settings if known.course else {}
    recipe = settings.get("recipe")
    if not recipe:
        yield "recipe", known.config.get("trainer", {}).get("recipe", NOT_STATED)
        yield "state", "no training ended in this run"
        return
    yield "recipe", f"{recipe['name']} ({recipe['reference']})"
    steps, images = number(settings["steps"]), number(settings["batch_size"])
    yield "length", f"{count(recipe['epochs'], 'epoch')}, {steps} steps of {images} images"
    yield "optimizer", f"{recipe['optimizer']}, learning rate {recipe['learning_rate']:g}"
    warmup = count(recipe["warmup_epochs"], "epoch")
    yield "schedule", f"{recipe['schedule']} after {warmup} of warmup"
    yield "regularisation", _changed(recipe, _REGULARISATION)
    yield "augmentation", _changed(recipe, _AUGMENTATION)
    precision = settings["precision"]["policy"]
    devices = ", ".join(settings["devices"])
    again = "the same" if settings["deterministic"] else "not the same"
    yield "computed", f"{precision} on {devices}, {settings['strategy']}; {again} to the last bit"
    yield "seed", str(known.config.get("trainer", {}).get("seed", NOT_STATED))


def _metrics(known: Known) -> Iterator[tuple[str, str]]:
    found = known.evaluated
    if found is None:
        yield "test split", "not evaluated in this run"
        return
    for metric, own in found.figures.items():
        unit = " nats" if metric == metrics.LOG_LOSS else ""
        bounds = interval(own.interval, metric)
        between = f", from {bounds} at {100 * found.sampling.confidence:g} %" if bounds else ""
        yield evaluation.TITLES[metric], f"{figure(own.value, metric)}{unit}{between}"
    if known.verdict:
        yield "verdict", "blessed" if known.verdict.blessed else "not blessed"
        yield "against", known.verdict.against or "no model was in production to compare with"


def _limits(known: Known) -> Iterator[str]:
    if stated := _words(known).get("limits"):
        yield stated
    if known.data:
        yield from _limits_of_data(known.data)
    found = known.evaluated
    if found is None:
        yield "It has not been evaluated: nothing is known of how often it errs."
        return
    yield from _limits_of_test(found)
    yield from _weak_classes(found)
    yield from _weak_slices(found)
    yield _calibration(found)
    if known.verdict and known.verdict.compared is None:
        yield f"It was compared with no other model: {known.verdict.note}."


def _limits_of_data(data: Data) -> Iterator[str]:
    train = data.contents.splits.get(_TRAIN)
    if train and len(train.class_counts) > 1:
        ranked = sorted(train.class_counts.items(), key=lambda item: (item[1], item[0]))
        (least, few), (most, many) = ranked[0], ranked[-1]
        yield (
            f"The smallest class to learn from is {least!r} with {count(few, 'image')}; the "
            f"largest, {most!r}, has {number(many)}."
        )
    if sizes := _sizes(data):
        yield f"It has seen images {sizes}; others are untried."
    if crossing := [
        entry
        for entry in data.overlaps or ()
        if entry["split"] != entry["other_split"]
        and _TEST in (entry["split"], entry["other_split"])
    ]:
        yield (
            f"Test and another split share {count(len(crossing), 'image')}, equal or alike, which "
            "makes the figures look better than they are."
        )
    if waived := [entry["name"] for entry in data.anomalies or () if entry["waived"]]:
        yield f"Anomalies of the data that a person let pass: {', '.join(waived)}."


def _limits_of_test(found: Evaluated) -> Iterator[str]:
    accuracy = found.figures[metrics.ACCURACY]
    groups = f", {number(found.units)} independent groups" if found.units < found.examples else ""
    size = f"The figures rest on {count(found.examples, 'image')}{groups}"
    if accuracy.interval:
        low, high = accuracy.interval
        yield (
            f"{size}: of the accuracy no more is known than that it is in a range of "
            f"{figure(high - low)[:-2]} percentage points."
        )
    else:
        yield f"{size}, without intervals."


def _weak_classes(found: Evaluated) -> Iterator[str]:
    known = [(own["recall"], text) for text, own in found.per_class.items() if own["examples"]]
    if without := len(found.per_class) - len(known):
        yield f"Nothing is known of classes without an image in the test split: {number(without)}."
    if len(known) > 1:
        recall, text = min(known)
        own = found.per_class[text]
        yield (
            f"The class it finds least often is {text!r}: {figure(recall)} of "
            f"{count(own['examples'], 'image')} (from {interval(own['recall_interval'])})."
        )
    pairs = [(times, true, said) for true, said, times in found.confusion if true != said]
    if pairs:
        times, true, said = max(pairs, key=lambda pair: (pair[0], -pair[1], -pair[2]))
        whole = found.per_class[found.classes[true]]["examples"]
        yield (
            f"Most often it takes {found.classes[true]!r} for {found.classes[said]!r}: "
            f"{number(times)} of {count(whole, 'image')}."
        )


def _weak_slices(found: Evaluated) -> Iterator[str]:
    """Says which slices are shown to be worse than the whole."""
    if not found.slices:
        yield "No feature of the images divides the test split, so no part was looked at alone."
        return
    whole = found.figures[metrics.ACCURACY].value
    weak = sorted(filter(lambda part: _is_weaker(part, whole), found.slices), key=_accuracy)
    if not weak:
        yield "No slice is shown to be weaker than the whole test split."
    for part in weak[:_SLICES_NAMED]:
        own = part.figures[metrics.ACCURACY]
        yield (
            f"Weaker where {part.feature} is {part.name}: accuracy {figure(own.value)} (from "
            f"{interval(own.interval)}) on {count(part.examples, 'image')}."
        )


def _accuracy(part: Slice) -> float:
    return part.figures[metrics.ACCURACY].value


def _is_weaker(part: Slice, whole: float) -> bool:
    bounds = part.figures[metrics.ACCURACY].interval
    return bounds is not None and bounds[1] < whole


def _calibration(found: Evaluated) -> str:
    gap = _overconfidence(found.reliability)
    way = "too high" if gap > 0 else "too low"
    return (
        f"Its confidence misses how often it is right by {figure(found.figures['calibration_error'].value)} "
        f"on average, mostly {way}."
    )


def _overconfidence(bins: Sequence[Bin]) -> float:
    """Returns by how much confidence exceeds accuracy, over all answers."""
    return sum(
        own.examples * (own.confidence - own.accuracy) for own in bins if own.confidence is not None
    )


def _licences(known: Known) -> Iterator[tuple[str, str]]:
    words = _words(known)
    yield "of the data", words.get("data_licence") or _of_dataset(known.data) or NOT_STATED
    yield "of the model", words.get("licence") or NOT_STATED


def _words(known: Known) -> Mapping[str, Any]:
    """Returns what a person says of the model."""
    return known.config.get("card") or {}


def _of_dataset(data: Data | None) -> str | None:
    """Returns the licence that a data set in TFDS's format states."""
    if data is None:
        return None
    information = reading.json_file(data.examples / "dataset_info.json") or {}
    return information.get("redistributionInfo", {}).get("license")


def _sizes(data: Data) -> str:
    """Returns how large the images are, from the least to the greatest."""
    found = [protos.features(dataset) for dataset in (data.statistics or {}).values()]
    ends = []
    for name in (examples.WIDTH, examples.HEIGHT):
        stats = [own[name].num_stats for own in found if name in own]
        if not stats:
            return ""
        ends.append((min(s.min for s in stats), max(s.max for s in stats)))
    (narrowest, widest), (lowest, highest) = ends
    if narrowest == widest and lowest == highest:
        return f"of {number(widest)} × {number(highest)} px"
    return f"from {number(narrowest)} × {number(lowest)} to {number(widest)} × {number(highest)} px"


def _changed(recipe: Mapping[str, Any], neutral: Mapping[str, Any]) -> str:
    """Returns what of a recipe does anything."""
    found = [
        name.replace("_", " ") + ("" if recipe[name] is True else f" {_value(recipe[name])}")
        for name, nothing in neutral.items()
        if recipe.get(name, nothing) != nothing
    ]
    return ", ".join(found) or "none"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
