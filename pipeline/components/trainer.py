"""Trainer: builds a network, trains it and exports what is served."""

import dataclasses
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, NonEmpty, NonNegative, Positive, parameters
from pipeline.records import manifest, protos
from pipeline.records.manifest import Manifest

if TYPE_CHECKING:
    from pipeline.training.preprocessing import Preprocessing
    from pipeline.training.session import Trained

OUTPUTS = {"model": "Model", "model_run": "ModelRun"}
RESUMABLE = True

# Stands between module and function in the name of a network that is not of this project.
CUSTOM = ":"

_STEPS_PER_LOOP = 10
# Of channels that hardly vary, such as in pictures that are all black: one of 256 steps.
_LEAST_STD = 1.0

# What Trainer itself decides about the network.
_OWN_ARGUMENTS = frozenset(
    ("bn_synchronized", "classes", "classifier_activation", "dtype", "include_top", "input_shape")
)


Scale = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


@parameters
class Parameters:
    """Network, optimisation, input, precision, strategy and checkpoints.

    Args:
        model: A name of `keras_resnet.list_models()`, or `module:function` for any Keras model:
            the function is called with `input_shape` and `classes` and returns a model that maps
            images to logits, without a softmax.
        model_arguments: Further arguments of `keras_resnet.create` or of that function.
        image_size: Height and width of the network's input, in pixels.
        mean: Subtracted from each channel, in the units of 8-bit pixels; None for that of the
            training split.
        std: Each channel is divided by it; None for that of the training split.
        precision: The Keras dtype policy to train in; `"auto"` for `mixed_bfloat16` where this
            hardware computes a step faster with it, else float32. What is exported computes in
            float32.
        strategy: `"mirrored"`: all GPUs, or all logical CPU devices; `"one_device"`: the first;
            `"multi_worker"`: those of all processes that TF_CONFIG names.
        bn_synchronized: Whether batch normalisation takes its statistics over all replicas. Where
            it does not, the moving statistics of the replicas are averaged.
        xla: Whether XLA compiles the step; None: on GPUs, where batch normalisation need not be
            synchronised.
        deterministic: Whether two runs give the same weights to the last bit; None: on CPUs, where
            it costs next to nothing.
        batch_size: Examples per step, of all replicas together.
        epochs: Passes over the training split.
        learning_rate: Peak of the schedule: linear warm-up, then half a cosine down to 0.
        warmup_epochs: Length of the warm-up.
        momentum: Nesterov momentum of SGD.
        weight_decay: λ of the penalty λ/2·‖w‖² on kernels.
        label_smoothing: Share of the target that is spread over all classes.
        ema_decay: What a step keeps of the moving average of the weights, which is then what is
            evaluated and exported; 0 for none.
        class_weights: `"balanced"`: an example counts the more the rarer its class is.
        sampling: `"balanced"`: every class comes equally often.
        random_crop: Training images are random parts of so large a share of the picture, least and
            greatest; None for the centred part that is also evaluated.
        random_shift: Training images are shifted by up to so many pixels each way.
        random_flip: Whether training images are mirrored left to right at random.
        random_rotation: Training images are turned by up to so large a fraction of the full turn
            each way.
        random_zoom: Training images are made larger or smaller by up to so large a fraction.
        cache_mb: Decoded images are kept in memory where a split takes no more than is left of so
            many MiB.
        steps_per_loop: Steps inside one call of the compiled loop.
        checkpoint_seconds: A checkpoint is written when so many seconds have passed since the last
            one; 0 for never.
        checkpoint_steps: And whenever so many steps have been done; 0 for never.
        keep_last: How many checkpoints are kept.
        profile_steps: The first and the last step that TensorFlow's profiler watches, for
            TensorBoard; None for none.
        insight_every: After so many steps it is measured how much of the gradient each stage gets,
            and by which path, for TensorBoard; 0 for never.
        export: The weights after the last epoch, or those of the epoch with the best accuracy on
            the split `eval`.
        seed: Determines initialisation, order and augmentation.
    """

    model: NonEmpty = "cifar_resnet20"
    model_arguments: dict[str, Any] = Field(default_factory=dict)
    image_size: tuple[Positive, Positive] = (32, 32)
    mean: tuple[float, float, float] | None = None
    std: tuple[Scale, Scale, Scale] | None = None
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    strategy: Literal["mirrored", "one_device", "multi_worker"] = "mirrored"
    bn_synchronized: bool = True
    xla: bool | None = None
    deterministic: bool | None = None
    batch_size: Positive = 128
    epochs: Positive = 20
    learning_rate: float = Field(default=0.1, gt=0.0)
    warmup_epochs: float = Field(default=1.0, ge=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    label_smoothing: Fraction = 0.0
    ema_decay: Decay = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    random_crop: tuple[Share, Share] | None = None
    random_shift: NonNegative = 0
    random_flip: bool = False
    random_rotation: float = Field(default=0.0, ge=0.0, le=0.5)
    random_zoom: float = Field(default=0.0, ge=0.0, lt=1.0)
    cache_mb: NonNegative = 2048
    steps_per_loop: Positive = _STEPS_PER_LOOP
    checkpoint_seconds: float = Field(default=300.0, ge=0.0)
    checkpoint_steps: NonNegative = 0
    keep_last: Positive = 2
    profile_steps: tuple[Positive, Positive] | None = None
    insight_every: NonNegative = 1000
    export: Literal["last", "best"] = "last"
    seed: NonNegative = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        if own := sorted(_OWN_ARGUMENTS & set(self.model_arguments)):
            raise ValueError(f"model_arguments must not hold {', '.join(own)}: Trainer sets it")
        if self.random_shift > min(self.image_size):
            raise ValueError(
                f"random_shift must be at most the image size {list(self.image_size)}, "
                f"not {self.random_shift}"
            )
        if self.profile_steps and self.profile_steps[0] > self.profile_steps[1]:
            raise ValueError(
                "profile_steps must be the first and then the last step, "
                f"not {list(self.profile_steps)}"
            )
        if self.random_crop and self.random_crop[0] > self.random_crop[1]:
            raise ValueError(
                "random_crop must be the least and then the greatest share, "
                f"not {list(self.random_crop)}"
            )
        return self


def check(parameters: Parameters) -> None:
    """Raises UsageError when no network can be built from the parameters.

    Loads Keras; everything that can be checked without it is checked when the parameters are
    made.
    """
    from pipeline.training import network

    try:
        network.build(parameters, classes=2, precision="float32")
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.model {parameters.model!r}: {error}") from None


def external(parameters: Parameters) -> str | None:
    """Returns the SHA-256 of the module that a network of the user's own is defined in."""
    if CUSTOM not in parameters.model:
        return None
    try:
        found = importlib.util.find_spec(parameters.model.partition(CUSTOM)[0])
    except (ImportError, ValueError):
        return None  # `check` says so
    if found is None or not found.has_location:
        return None
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Format-Serving/` (a SavedModel), `Format-Keras/model.keras`, TensorBoard logs, and
    `settings.json`, the effective value of everything that was left to be found out.

    A killed training goes on from its last checkpoint, in `context.state`. Of several workers, the
    first alone writes the outputs.
    """
    if parameters.strategy == "multi_worker":
        from pipeline.training import worker

        # TensorFlow wants to know of the cluster before anything else.
        return worker.run(inputs, outputs, parameters, context)
    return train(inputs, outputs, parameters, context)


def train(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Does what `run` does, in this process."""
    from pipeline.training import session

    root = inputs["examples"].uri
    contents = manifest.load(root)
    counts = contents.split("train").class_counts
    if missing := [name for name in contents.classes if not counts[name]]:
        raise DataError(
            f"the training split has no usable image of {', '.join(missing)}; "
            f"{root / 'quarantine.jsonl'} says which were not used, and why"
        )
    expected = _preprocessing(parameters, inputs)
    try:
        trained = session.train(
            root, contents, parameters, expected, outputs["model_run"].uri, context
        )
    except FloatingPointError as error:
        raise PipelineError(str(error)) from None
    if trained.worker:
        return Outcome(f"worker {trained.worker}; the first one writes the model")
    _export(trained, contents, parameters, expected, outputs["model"])
    outputs["model_run"].properties.update(trained.figures)
    return Outcome(_result(trained, parameters))


def _preprocessing(parameters: Parameters, inputs: dict[str, Artifact]) -> "Preprocessing":
    """Returns what the network expects of its input."""
    from pipeline.training.preprocessing import Preprocessing

    mean, std = parameters.mean, parameters.std
    if mean is None or std is None:
        found_mean, found_std = protos.channel_moments(inputs["statistics"])
        mean = mean or found_mean
        std = std or tuple(max(_LEAST_STD, value) for value in found_std)
    height, width = parameters.image_size
    return Preprocessing(height=height, width=width, mean=mean, std=std)


def _export(
    trained: "Trained",
    contents: Manifest,
    parameters: Parameters,
    expected: "Preprocessing",
    model: Artifact,
) -> None:
    from pipeline.serving import export

    export.save(trained.model, contents.classes, expected, model.uri / "Format-Serving")
    (model.uri / "Format-Keras").mkdir()
    trained.model.save(model.uri / "Format-Keras" / "model.keras")
    files.write_json(model.uri / "classes.json", contents.classes)
    model.properties.update(
        architecture=parameters.model,
        parameters=trained.model.count_params(),
        preprocessing=dataclasses.asdict(expected),
    )


def _result(trained: "Trained", parameters: Parameters) -> str:
    changes = "".join(f" {name}={value}" for name, value in parameters.model_arguments.items())
    network = f"{parameters.model}{changes}, {trained.model.count_params():,} parameters, "
    if "eval_accuracy" not in trained.figures:
        return (
            f"{network}{trained.epoch} epochs; nothing was measured while training, as the "
            "examples have no split 'eval', so the weights are the last"
        )
    when = f"after {trained.epoch} epochs"
    if parameters.export == "best":
        when = f"after epoch {trained.epoch} of {parameters.epochs}, the best"
    return f"{network}eval accuracy {trained.figures['eval_accuracy']:.2%} {when}"
