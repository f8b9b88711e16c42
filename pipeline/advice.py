"""A configuration for a person's own images: each choice with its reason, from a look at them."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline import machine
from pipeline.survey import Survey

# Splits that a run cannot do without.
_NEEDED = ("train", "test")
# Times as many images as in the rarest class, from which on classes are weighted.
_UNBALANCED = 5
# Below this, splits of a tenth hold too few images of a class to say anything.
_FEW = 2_000
# From here on the recipes that were made for ImageNet have enough to learn from.
_MANY, _VERY_MANY = 20_000, 500_000
_WIDTH = 96
# A value of its own, where None leaves the key out.
_NULL = object()


@dataclass(frozen=True)
class Hardware:
    """What a run would have.

    Args:
        cores: That can be used at once.
        gpus: Their names.
        memory: MiB of the smallest GPU; 0 where there is none.
    """

    cores: int
    gpus: tuple[str, ...] = ()
    memory: int = 0

    def __str__(self) -> str:
        """Returns it in a few words."""
        cores = f"{self.cores} CPU core{'s' if self.cores > 1 else ''}"
        if not self.gpus:
            return f"{cores}, no GPU"
        return f"{cores}, {', '.join(self.gpus)} ({self.memory / 1024:.0f} GiB)"


def hardware() -> Hardware:
    """Returns what this machine has."""
    gpus = machine.gpus()
    return Hardware(
        machine.cores().usable,
        tuple(gpu.name for gpu in gpus),
        min((gpu.memory for gpu in gpus), default=0),
    )


@dataclass(frozen=True)
class Choice:
    """One key with its value and the reason for it; the key is left out where the value is None."""

    key: str
    value: Any
    reason: str = ""


def configuration(survey: Survey, hardware: Hardware, name: str) -> str:
    """Returns a configuration as commented YAML.

    Args:
        survey: What there is.
        hardware: What it would be trained on.
        name: Of the pipeline and its model.
    """
    lines = [
        comment
        for line in (*described(survey), f"Looked at on {hardware}.")
        for comment in _comment(line)
    ]
    lines += [
        "#",
        *_comment(
            "Each value has its reason beside it: change what you know better. "
            "docs/configuration.md has all keys; what is not named here has the default that is "
            "given there."
        ),
        "",
    ]
    lines += _yaml(
        Choice("name", name, "Of the pipeline, and of the model in saved_models/."),
        Choice("workers", hardware.cores, "Processes that read images: one for each core."),
    )
    side = _side(survey, hardware)
    for section, inner in (
        ("example_gen", _yaml(*_example_gen(survey, side))),
        ("example_validator", _yaml(*_example_validator(survey))),
        ("trainer", [*_yaml(*_trainer(survey, hardware, side)), *_trained(survey, side)]),
        ("evaluator", _thresholds(survey)),
    ):
        if inner:
            lines += ["", f"{section}:", *(f"  {line}" for line in inner)]
    return "\n".join((*lines, ""))


def described(survey: Survey) -> list[str]:
    """Returns what was found, in lines for a person."""
    counts = sorted(survey.counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{text} {count:,}" for text, count in counts[:8])
    rest = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    sampled = "" if survey.counted else f", counted in {survey.looked:,} of them"
    found = [f"{survey.total:,} images of {len(counts)} classes{sampled}: {shown}{rest}."]
    if survey.splits:
        splits = ", ".join(f"{name} {count:,}" for name, count in survey.splits.items())
        found.append(f"Splits of its own: {splits}.")
    looked = "" if survey.looked == survey.total else f" of {survey.looked:,} that were looked at"
    if sides := survey.short_sides:
        formats = ", ".join(f"{name} {count:,}" for name, count in survey.formats.items())
        span = f"{sides[0]:,} pixels"
        if sides[0] < sides[-1]:
            span = f"{sides[0]:,} to {sides[-1]:,} pixels, half at least {survey.short_side:,}"
        found.append(f"Shorter sides{looked}: {span}. Files: {formats}.")
    if survey.unreadable:
        found.append(
            f"No image that can be read: {len(survey.unreadable):,}{looked}, the first is "
            f"{survey.unreadable[0]}; a run leaves out such files and says so."
        )
    return [*found, *survey.notices]


def _training(survey: Survey) -> int:
    """Returns the number of images that a run would train on, about."""
    share = _shares(survey)["train"]
    if _own_splits(survey):
        share = survey.splits["train"] / sum(survey.splits.values())
    return max(1, round(survey.total * share))


def _shares(survey: Survey) -> dict[str, float]:
    if survey.total < _FEW:
        return {"train": 0.7, "eval": 0.15, "test": 0.15}
    return {"train": 0.8, "eval": 0.1, "test": 0.1}


def _own_splits(survey: Survey) -> bool:
    """Whether the collection has splits of its own that a run can do with."""
    return all(survey.splits.get(name) for name in _NEEDED)


def _side(survey: Survey, hardware: Hardware) -> int:
    """Returns the side of the network's input, in pixels."""
    greatest = 224 if hardware.gpus else 64
    sides = (16, 32, 64, 128, 160, 224)
    # A little larger than the picture costs time alone, smaller costs detail.
    if hardware.gpus and _MANY <= _training(survey) < _VERY_MANY:
        greatest = 160  # what rsb_a3 trains with
    fitting = [side for side in sides if side <= 1.3 * max(survey.short_side, 16)]
    return min(greatest, fitting[-1])


def _example_gen(survey: Survey, side: int) -> list[Choice]:
    missing = [name for name in _NEEDED if not survey.splits.get(name)]
    own = _own_splits(survey)
    return [
        Choice("source", survey.data, "Seen from the directory in which the run is started."),
        Choice(
            "official_splits",
            ("keep" if own else "ignore") if survey.splits else None,
            "The splits of the collection stay as they are."
            if own
            else f"The collection has no split {' and no '.join(missing)}, so that it is split "
            "anew.",
        ),
        Choice(
            "splits",
            _shares(survey) if survey.total < _FEW and not own else None,
            "The images are few: larger splits to measure on.",
        ),
        Choice(
            "short_side",
            2 * side if survey.short_side > 3 * side else None,
            f"Stored smaller, as the network sees {side} pixels: less to read in each epoch.",
        ),
        Choice(
            "near",
            _NULL if survey.short_side < 48 else None,
            "Of pictures this small a hash finds that many look alike, which do not.",
        ),
    ]


def _example_validator(survey: Survey) -> list[Choice]:
    most, least = max(survey.counts.values()), min(survey.counts.values())
    if most <= 100 * max(least, 1):
        return []
    allowed = 10 ** math.ceil(math.log10(most / max(least, 1)))
    return [
        Choice("max_imbalance", float(allowed), "Beyond 100, which is the default, a run stops.")
    ]


def _trainer(survey: Survey, hardware: Hardware, side: int) -> list[Choice]:
    images = _training(survey)
    recipe = _recipe(side, images, hardware)
    batch = _batch(images, hardware)
    chosen = [
        Choice("image_size", [side, side], _why_side(side, survey, hardware)),
        *_network(side, images, hardware),
        recipe,
        Choice("batch_size", batch, f"About {-(-images // batch):,} steps make an epoch."),
    ]
    if recipe.value == "default":
        chosen += _default_recipe(survey, side, batch, hardware)
    most, least = max(survey.counts.values()), max(1, min(survey.counts.values()))
    if most >= _UNBALANCED * least:
        chosen.append(
            Choice(
                "class_weights",
                "balanced",
                f"The commonest class has {most / least:.0f} times the images of the rarest.",
            )
        )
    return chosen


def _trained(survey: Survey, side: int) -> list[str]:
    """Returns how to begin with trained weights, as a comment, where that is of use."""
    if side < 64 or _training(survey) >= _MANY:
        return []
    return [
        *_comment(
            "Trained weights, which are downloaded once, need far fewer images and epochs. With "
            "these, take image_size [224, 224], epochs 10 and learning_rate 0.005; the "
            "configuration finetune has more:"
        ),
        "# init_from: imagenet",
        "# freeze_stages: 2",
        "# head_learning_rate: 10",
    ]


def _why_side(side: int, survey: Survey, hardware: Hardware) -> str:
    if not hardware.gpus and survey.short_side > 1.3 * side:
        return (
            "Pixels that the network sees. A step takes four times as long with twice the side: on "
            "a CPU begin small, and enlarge it when everything else is right."
        )
    return f"Pixels that the network sees; half of the pictures have {survey.short_side:,} or more."


def _network(side: int, images: int, hardware: Hardware) -> list[Choice]:
    if side <= 32:
        if hardware.gpus and images >= _MANY:
            return [
                Choice("model", "wrn_28_10", "Wide, for small pictures of which there are many.")
            ]
        chosen = [Choice("model", "cifar_resnet20", "Made for pictures this small.")]
        if side < 32:
            reason = "Two blocks a stage are enough for so few pixels."
            chosen.append(Choice("model_arguments", {"depths": [2, 2, 2]}, reason))
        return chosen
    if not hardware.gpus:
        return [Choice("model", "resnet18", "The smallest for photographs: what a CPU can train.")]
    if images >= _MANY:
        return [Choice("model", "resnet50", "What most results are measured with.")]
    return [
        Choice(
            "model",
            "resnet18",
            f"{images:,} images train it; for resnet50 they are few, unless it begins with trained "
            "weights.",
        )
    ]


def _recipe(side: int, images: int, hardware: Hardware) -> Choice:
    if not hardware.gpus or images < _MANY:
        return Choice(
            "recipe", "default", "SGD with warm-up and cosine; the strong recipes need more images."
        )
    if side <= 32:
        return Choice("recipe", "wrn_cifar", "200 epochs, as the authors of the network train it.")
    if images >= _VERY_MANY:
        return Choice("recipe", "rsb_a2", "300 epochs; rsb_a3 takes a fifth of the time.")
    return Choice("recipe", "rsb_a3", "100 epochs with strong augmentation.")


def _batch(images: int, hardware: Hardware) -> int:
    """Returns a power of two of which an epoch has at least 16, within what the memory takes."""
    greatest = 256 if hardware.memory >= 16_000 else 128 if hardware.gpus else 64
    least = max(8, 2 ** math.ceil(math.log2(max(1, len(hardware.gpus)))))
    return int(min(greatest, max(least, 2 ** math.floor(math.log2(max(1, images / 16))))))


def _default_recipe(survey: Survey, side: int, batch: int, hardware: Hardware) -> list[Choice]:
    steps = -(-_training(survey) // batch)
    wanted, most = (20_000, 200) if hardware.gpus else (3_000, 60)
    epochs = min(most, max(10 if hardware.gpus else 5, round(wanted / steps)))
    photographs = side >= 64
    return [
        Choice(
            "epochs",
            epochs,
            f"{epochs * steps:,} steps in all. More help as long as the accuracy on `eval` rises.",
        ),
        Choice(
            "learning_rate", 0.1 * batch / 128, "0.1 for a batch of 128, and in proportion to it."
        ),
        Choice("warmup_epochs", 2 if epochs > 10 else 1, "The first steps are the roughest."),
        Choice("weight_decay", 5.0e-4, "More than the recipe's 1e-4, as for small collections."),
        Choice(
            "label_smoothing", 0.1 if photographs else None, "Labels of photographs have errors."
        ),
        Choice("random_shift", max(1, side // 10), "A tenth of the side."),
        Choice(
            "random_flip",
            True if photographs else None,
            "Leave it out where left and right differ, as with letters.",
        ),
    ]


def _thresholds(survey: Survey) -> list[str]:
    total = sum(survey.counts.values()) or 1
    text, most = max(survey.counts.items(), key=lambda item: item[1])
    guessing = math.ceil(100 * most / total) / 100
    reason = (
        f"Always answering {text!r} would be right in {most / total:.0%}: "
        "ask for what your application needs. A model that does not reach it is not pushed."
    )
    return [*_comment(reason), f"thresholds: {{accuracy: {min(0.99, guessing + 0.1):.2f}}}"]


def _yaml(*choices: Choice) -> list[str]:
    lines = []
    for choice in choices:
        if choice.value is not None:
            lines += _comment(choice.reason)
            lines.append(f"{choice.key}: {_value(choice.value)}")
    return lines


def _comment(text: str) -> list[str]:
    lines, line = [], "#"
    # A name may hold what no YAML may.
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    for word in text.split():
        if len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]


def _escaped(text: str) -> str:
    """Returns what stands between quotes in YAML, whatever a name holds."""
    return "".join(
        f"\\{letter}"
        if letter in '"\\'
        else letter
        if letter.isprintable()
        else f"\\U{ord(letter):08x}"
        for letter in text
    )


def _value(value: Any) -> str:
    """Returns a value as YAML in one line."""
    match value:
        case _ if value is _NULL:
            return "null"
        case dict():
            return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
        case str() if re.fullmatch(r"[A-Za-z_]\w*", value) and yaml.safe_load(value) == value:
            return value
        case str():
            return f'"{_escaped(value)}"'
        case _:
            return json.dumps(value)
