"""Evaluator: measures on the test split what would be served, and blesses it or does not."""

import contextlib
import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pipeline import files
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.evaluation import baseline as production
from pipeline.evaluation import slices as slicing
from pipeline.evaluation.comparison import Rule
from pipeline.evaluation.thresholds import EACH, Thresholds
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import NonNegative, Positive, parameters
from pipeline.records import examples, manifest, tfrecord
from pipeline.serving import versions

OUTPUTS = {"evaluation": "ModelEvaluation", "blessing": "ModelBlessing"}

PAGE = "evaluation.html"

_SPLIT = "test"
_PARTS = ".parts"


@parameters
class Parameters:
    """What the model has to reach before it may be pushed.

    Args:
        thresholds: Bounds of metrics on the test split. Without any there is no blessing.
        comparison: What the model has to be shown to be against the one in production; with null
            it is not compared.
        baseline: Where the model in production is: a directory of versions or the URI of one, or
            a SavedModel. By default where the Pusher puts this one.
        slices: Feature to the parts in which it is looked at: the edges of numbers, or how many
            parts of equal size, or how many of the commonest values. A feature of the records, or
            `image/size` (the square root of width times height), `image/folder`,
            `image/aspect_ratio`, `image/bytes`, `image/brightness`, `image/contrast`,
            `image/sharpness`.
        confidence: Of the intervals.
        resamples: Of each bootstrap; 0 leaves out the intervals.
        seed: Of what is drawn.
        batch_size: Images per call of a model.
        mistakes: The number of worst mistakes whose images are kept.
        class_mistakes: How many mistakes of each class the page shows.
    """

    thresholds: Thresholds = Field(default_factory=Thresholds)
    comparison: Rule | None = Field(default_factory=Rule)
    baseline: Annotated[Path | str | None, BeforeValidator(production.as_place)] = None
    slices: dict[str, slicing.Bins] = Field(default_factory=lambda: dict(slicing.DEFAULT))
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    resamples: NonNegative = 2000
    seed: NonNegative = 0
    batch_size: Positive = 128
    mistakes: NonNegative = 20
    class_mistakes: NonNegative = 4


def look_outside(
    inputs: dict[str, Artifact], parameters: Parameters, name: str
) -> dict[str, str | None]:
    """Returns the digest of the model in production: what is compared with it depends on it."""
    found = _baseline(inputs, parameters)
    return {"baseline": found.digest if found else None}


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Asks the exported SavedModel's own signature about every image of the test split.

    The model in production, if there is one, is asked about the same images, and the two are
    compared image by image. Writes what `pipeline.evaluation.output` names, the page
    `evaluation.html`, and `BLESSED` or `NOT_BLESSED` with the reasons. Refuses when the model is
    not blessed.

    Raises:
        DataError: The split is damaged, or the model has no answer to an image.
        Stopped: Another model was pushed since the cache was asked.
    """
    from pipeline.beam import evaluation as asking
    from pipeline.evaluation import assessment, output, predictions, verdict
    from pipeline.reporting import evaluation as page

    root, evaluation = inputs["examples"].uri, outputs["evaluation"]
    contents = manifest.load(root)
    manifest.verify(root, contents, (_SPLIT,))
    _require_known(parameters.thresholds, contents, parameters)
    before = _baseline(inputs, parameters)
    if context.outside not in (None, {"baseline": before.digest if before else None}):
        raise Stopped("another model was pushed meanwhile; run again to compare with that")

    local = production.local(before, evaluation.uri) if before else contextlib.nullcontext()
    with local as compared_with:
        parts = asking.run(
            root,
            contents,
            _SPLIT,
            asking.Question(
                str(inputs["model"].uri / "Format-Serving"),
                str(compared_with) if compared_with else None,
                contents.classes,
                tuple(dict.fromkeys((*parameters.slices, examples.GROUP))),
            ),
            parameters.batch_size,
            evaluation.uri / _PARTS,
            context,
        )
    given = predictions.read(parts, contents.classes)
    found = assessment.assess(
        given,
        parameters.slices,
        parameters.comparison,
        assessment.Sampling(parameters.resamples, parameters.confidence, parameters.seed),
        _features(root, contents),
    )
    against = str(before.place) if before else ""
    judged = verdict.decide(found, parameters.thresholds, parameters.comparison, against)
    comparison = verdict.comparison_as_json(judged)
    output.write(evaluation.uri, found, parts, comparison, _configuration(parameters))
    # A worker that was given up may still be writing.
    shutil.rmtree(evaluation.uri / _PARTS, ignore_errors=True)

    shown = page.choose(found, parameters.mistakes, parameters.class_mistakes)
    places = [given.places[index] for index in shown.all]
    pictures = asking.images_at(root, contents, _SPLIT, places)
    output.write_mistakes(evaluation.uri, found, shown.worst, pictures)
    files.write_text(
        evaluation.uri / PAGE, page.render(context.name, found, judged, shown, pictures)
    )
    evaluation.properties.update(
        examples=len(given), **{name: figure.value for name, figure in found.figures.items()}
    )
    return _bless(
        outputs["blessing"], inputs["model"], parameters, judged, output.result_line(found)
    )


def _bless(
    blessing: Artifact, model: Artifact, parameters: Parameters, judged: Any, result: str
) -> Outcome:
    """Writes the blessing, or why there is none."""
    from pipeline.evaluation import verdict

    blessing.properties.update(
        blessed=int(judged.blessed), current_model=str(model.uri), baseline_model=judged.against
    )
    files.write_json(
        blessing.uri / ("BLESSED" if judged.blessed else "NOT_BLESSED"),
        verdict.as_json(judged, parameters.thresholds),
    )
    if judged.compared is not None:
        result += f", {judged.compared.gain:+.4f} against {judged.against}"
    if judged.blessed:
        return Outcome(f"{result}: blessed")
    reasons = "; ".join(judged.reasons)
    return Outcome(f"{result}: not blessed", refusal=f"not blessed: {reasons}")


def _baseline(inputs: dict[str, Artifact], parameters: Parameters) -> production.Baseline | None:
    if parameters.comparison is None or parameters.baseline is None:
        return None
    candidate = versions.digest(inputs["model"].uri / "Format-Serving")
    return production.find(parameters.baseline, candidate)


def _require_known(
    thresholds: Thresholds, contents: manifest.Manifest, parameters: Parameters
) -> None:
    """Raises UsageError when a threshold speaks of what there is not, before anything is asked."""
    for key, known in (
        ("classes", (*contents.classes, EACH)),
        ("slices", tuple(parameters.slices)),
    ):
        for name in getattr(thresholds, key):
            if name not in known:
                raise UsageError(
                    f"evaluator.thresholds.{key}: {name!r} is none; expected one of "
                    f"{', '.join(map(repr, known))}"
                )


def _features(root: Path, contents: manifest.Manifest) -> tuple[str, ...]:
    """Returns the features of the first record of the split."""
    from pipeline.records.example_proto import example_class

    for shard in contents.split(_SPLIT).shards:
        for payload in tfrecord.read(root / shard.file):
            return tuple(example_class().FromString(payload).features.feature)
    raise PipelineError(f"{root}: the split {_SPLIT!r} has no records")


def _configuration(parameters: Parameters) -> dict[str, Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(Parameters).dump_python(parameters, mode="json")
