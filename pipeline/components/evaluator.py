"""Evaluator: measures on the test split what would be served, and blesses it or does not."""

import json
import re
from typing import Literal

from pydantic import Field

from pipeline import files
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, NonNegative, Positive, parameters
from pipeline.records import manifest

OUTPUTS = {"evaluation": "ModelEvaluation", "blessing": "ModelBlessing"}

_SPLIT = "test"
_NAME_LENGTH = 40


@parameters
class Parameters:
    """What the model has to reach before it may be pushed.

    Args:
        thresholds: The least value of a metric on the test split. Without any there is no
            blessing.
        batch_size: Images per call of the model.
        mistakes: The number of worst mistakes whose images are kept.
    """

    thresholds: dict[Literal["accuracy", "top_5_accuracy"], Fraction] = Field(default_factory=dict)
    batch_size: Positive = 128
    mistakes: NonNegative = 20


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Asks the exported SavedModel's own signature about every image of the test split.

    Writes `metrics.json`, `predictions.jsonl`, the images of the worst mistakes in `mistakes/`,
    and `BLESSED` or `NOT_BLESSED`. Refuses when the model is not blessed.
    """
    from pipeline.serving import metrics
    from pipeline.serving.predictor import Predictor

    root = inputs["examples"].uri
    contents = manifest.load(root)
    held_out = manifest.examples_of(root, contents, _SPLIT)
    predictor = Predictor(inputs["model"].uri / "Format-Serving")
    probabilities = []
    images = [example.encoded for example in held_out]
    for prediction in predictor.in_batches(images, parameters.batch_size):
        probabilities.extend(prediction.probabilities)
        context.progress(len(probabilities), len(images))

    evaluation = outputs["evaluation"]
    measured = metrics.measure(probabilities, [e.label for e in held_out], contents.classes)
    files.write_json(evaluation.uri / "metrics.json", measured)
    files.write_text(
        evaluation.uri / "predictions.jsonl",
        "".join(
            json.dumps({"key": example.key, "filename": example.filename, **entry}) + "\n"
            for example, entry in zip(
                held_out, metrics.rows(probabilities, held_out, contents.classes), strict=True
            )
        ),
    )
    for entry, example in metrics.worst(probabilities, held_out, contents.classes)[
        : parameters.mistakes
    ]:
        names = [_in_file_name(text) for text in (entry["predicted"], example.text)]
        path = f"{'-not-'.join(names)}_{entry['score']:.2f}_{example.key[:8]}.{example.format}"
        files.write_bytes(evaluation.uri / "mistakes" / path, example.encoded)
    evaluation.properties.update({k: measured[k] for k in ("accuracy", "log_loss", "examples")})

    missed = [
        f"{name} is {measured[name]:.4f}, expected at least {least:g}"
        for name, least in parameters.thresholds.items()
        if measured[name] < least
    ]
    if not parameters.thresholds:
        missed = ["no thresholds are configured (evaluator.thresholds), so there is no blessing"]
    blessing = outputs["blessing"]
    blessing.properties["blessed"] = int(not missed)
    files.write_json(
        blessing.uri / ("NOT_BLESSED" if missed else "BLESSED"),
        {"blessed": not missed, "reasons": missed, "thresholds": parameters.thresholds},
    )
    result = (
        f"test accuracy {measured['accuracy']:.2%} on {measured['examples']:,} images, "
        f"log loss {measured['log_loss']:.4f}"
    )
    if missed:
        return Outcome(f"{result}: not blessed", refusal=f"not blessed: {'; '.join(missed)}")
    return Outcome(f"{result}: blessed")


def _in_file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:_NAME_LENGTH]
