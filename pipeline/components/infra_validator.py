"""InfraValidator: tries the exported model in a clean process, and compares its answers."""

import time

from pydantic import Field

from pipeline import files
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Positive, parameters
from pipeline.records import manifest

OUTPUTS = {"blessing": "InfraBlessing"}

_SPLIT = "test"
_BACKEND = "saved_model subprocess"


@parameters
class Parameters:
    """How the exported model is tried.

    Args:
        examples: The number of test images that it is asked about.
        tolerance: The greatest difference between a served probability and the one that the Keras
            model computes from the same bytes.
        max_loading_seconds: How long the process may take to start, load the model and answer.
    """

    examples: Positive = 16
    tolerance: float = Field(default=1e-4, gt=0.0)
    max_loading_seconds: float = Field(default=300.0, gt=0.0)


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `INFRA_BLESSED` or `INFRA_NOT_BLESSED`, with what was found.

    The answers of the SavedModel, which come from a process that knows nothing of this package's
    networks, have to equal what the Keras model of the Trainer gives for the same bytes, in
    batches of one and in one batch. Refuses when they do not.
    """
    from pipeline.serving import probe

    root = inputs["examples"].uri
    contents = manifest.load(root)
    asked = manifest.examples_of(root, contents, _SPLIT)[: parameters.examples]
    images = [example.encoded for example in asked]
    model = inputs["model"]
    begin = time.perf_counter()
    try:
        answers = probe.ask(
            model.uri / "Format-Serving", images, parameters.max_loading_seconds, context.progress
        )
    except probe.ProbeError as error:
        reasons, difference = [str(error)], None
    else:
        expected = probe.keras_probabilities(model, images)
        reasons, difference = probe.compare(
            answers, expected, contents.classes, parameters.tolerance
        )
    seconds = time.perf_counter() - begin

    blessing = outputs["blessing"]
    blessing.properties.update(blessed=int(not reasons), backend=_BACKEND)
    files.write_json(
        blessing.uri / ("INFRA_NOT_BLESSED" if reasons else "INFRA_BLESSED"),
        {
            "blessed": not reasons,
            "reasons": reasons,
            "backend": _BACKEND,
            "images": len(images),
            "max_difference": difference,
            "seconds": round(seconds, 3),
        },
    )
    if reasons:
        return Outcome(
            "not blessed", refusal=f"the exported model is not fit to serve: {'; '.join(reasons)}"
        )
    return Outcome(
        f"{len(images)} answers from a clean process differ from Keras by at most {difference:.1e}"
    )
