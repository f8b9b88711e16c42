"""BulkInferrer: what the new model says of many images, in shards."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from pipeline.bulk import inputs as reading
from pipeline.bulk import job
from pipeline.errors import PipelineError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import NonEmpty, Positive, parameters

OUTPUTS = {"inference_result": "InferenceResult"}
RESUMABLE = True

_BLESSINGS = ("blessing", "infra_blessing")
_PAYLOADS = {"jsonl": "JSON", "prediction_log": "PredictionLog"}
_FILES = {"jsonl": "jsonl", "prediction_log": "tfrecords"}


@parameters
class Parameters:
    """What a blessed model is asked about beyond the test split.

    Args:
        data: A folder of images of any depth, a manifest with a column `path`, TFRecord files,
            `tfds:NAME` or `digits`, or a URI; None leaves the component out of the run.
        format: `jsonl`, or `prediction_log` for TFRecord files of TF Serving's `PredictionLog`.
        batch_size: The most images of a call of the model.
        shard_size: Images of a shard, which is what a kill may cost.
        top: How many classes are named; None for as many as the model names.
        probabilities: Whether those of all classes are written, too.
        features: Whether what the classifier sees is written, in place of classes.
    """

    data: NonEmpty | None = None
    format: Literal["jsonl", "prediction_log"] = "jsonl"
    batch_size: Positive = 32
    shard_size: Positive = 1024
    top: Positive | None = None
    probabilities: bool = False
    features: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        if self.features and (self.probabilities or self.top is not None):
            raise ValueError("features writes no classes: expected without probabilities and top")
        return self


def check(parameters: Parameters) -> None:
    """Raises UsageError when there is no such data, or no image in it."""
    external(parameters)


def external(parameters: Parameters) -> str:
    """Returns a digest of the names, sizes and times of change of the images."""
    with tempfile.TemporaryFile() as file:
        return reading.write(parameters.data, parameters.shard_size, file).sha256


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes what the SavedModel of `inputs["model"]` says of every image, when it is blessed.

    Shards, dead letters and `summary.json` are those of `pipeline.bulk.job`. A killed execution
    goes on with the first shard that is missing, in `context.state`. Refuses when not one image
    could be predicted.
    """
    for key in _BLESSINGS:
        if inputs[key].properties.get("blessed") != 1:
            raise PipelineError(
                f"nothing was inferred: {inputs[key].uri} holds no positive {inputs[key].type}"
            )
    written = outputs["inference_result"]
    directory = written.uri if context.state is None else context.state
    request = job.Request(
        data=parameters.data,
        model=inputs["model"].uri / "Format-Serving",
        name=context.name,
        format=parameters.format,
        shard_size=parameters.shard_size,
        batch_size=parameters.batch_size,
        top=parameters.top,
        probabilities=parameters.probabilities,
        features=parameters.features,
    )
    # Files that came while the last execution listed them are of this one's data.
    account = job.run(request, directory, context, restart="if_other")
    if directory != written.uri:
        _link(directory, written.uri)
    summary = account.summary
    written.properties.update(
        images=summary["images"],
        predicted=summary["predicted"],
        not_predicted=summary["not_predicted"],
        file_format=_FILES[parameters.format],
        payload_format=_PAYLOADS[parameters.format],
    )
    refusal = None if summary["predicted"] else f"not one image of {parameters.data} was predicted"
    return Outcome(account.line, refusal)


def _link(source: Path, destination: Path) -> None:
    """Lets the files appear in `destination`, too; `source` stays for who is killed after this."""
    for path in source.glob("[!.]*"):
        try:
            os.link(path, destination / path.name)
        except OSError:  # a file system without hard links
            shutil.copy2(path, destination / path.name)
