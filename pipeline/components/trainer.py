"""Trainer: builds a network of the family, trains it and exports what is served."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Fraction, NonEmpty, NonNegative, Positive, parameters
from pipeline.records import examples, manifest, protos

OUTPUTS = {"model": "Model", "model_run": "ModelRun"}

_STEPS_PER_LOOP = 10

# What Trainer itself decides about the network.
_OWN_ARGUMENTS = frozenset(
    ("bn_synchronized", "classes", "classifier_activation", "dtype", "include_top", "input_shape")
)


Scale = Annotated[float, Field(gt=0.0)]


@parameters
class Parameters:
    """Network, optimisation, precision and strategy.

    Args:
        model: A name of `keras_resnet.list_models()`.
        model_arguments: Further arguments of `keras_resnet.create`.
        image_size: Height and width of the network's input, in pixels.
        mean: Subtracted from each channel, in the units of 8-bit pixels.
        std: Each channel is divided by it.
        precision: The Keras dtype policy to train in. What is exported computes in float32.
        strategy: `"mirrored"`: all GPUs, or all logical CPU devices; `"one_device"`: the first.
        batch_size: Examples per step, of all replicas together.
        epochs: Passes over the training split.
        learning_rate: Peak of the schedule: linear warm-up, then half a cosine down to 0.
        warmup_epochs: Length of the warm-up.
        momentum: Nesterov momentum of SGD.
        weight_decay: λ of the penalty λ/2·‖w‖² on kernels.
        label_smoothing: Share of the target that is spread over all classes.
        random_shift: Training images are shifted by up to so many pixels each way.
        random_flip: Whether training images are mirrored left to right at random.
        steps_per_loop: Steps inside one call of the compiled loop.
        seed: Determines initialisation, order and augmentation.
    """

    model: NonEmpty = "cifar_resnet20"
    model_arguments: dict[str, Any] = Field(default_factory=dict)
    image_size: tuple[Positive, Positive] = (32, 32)
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[Scale, Scale, Scale] = (127.5, 127.5, 127.5)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    strategy: Literal["mirrored", "one_device"] = "mirrored"
    batch_size: Positive = 128
    epochs: Positive = 20
    learning_rate: float = Field(default=0.1, gt=0.0)
    warmup_epochs: float = Field(default=1.0, ge=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    label_smoothing: Fraction = 0.0
    random_shift: NonNegative = 0
    random_flip: bool = False
    steps_per_loop: Positive = _STEPS_PER_LOOP
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
        return self


def check(parameters: Parameters) -> None:
    """Raises UsageError when no network can be built from the parameters.

    Loads Keras; everything that can be checked without it is checked when the parameters are
    made.
    """
    from pipeline.training import session

    try:
        session.build(parameters, classes=2)
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.model {parameters.model!r}: {error}") from None


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Format-Serving/` (a SavedModel), `Format-Keras/model.keras`, and TensorBoard logs."""
    from pipeline.serving import export
    from pipeline.training import session

    root = inputs["examples"].uri
    contents = manifest.load(root)
    counts = contents.split("train").class_counts
    if missing := [name for name in contents.classes if not counts[name]]:
        raise DataError(
            f"the training split has no usable image of {', '.join(missing)}; "
            f"{root / 'quarantine.jsonl'} says which were not used, and why"
        )
    allowed = protos.classes(protos.read_schema(inputs["schema"]), examples.TEXT)
    if set(allowed) != set(contents.classes):
        raise DataError(
            f"the examples have the classes {', '.join(contents.classes)}; the schema allows "
            f"{', '.join(allowed)}; run SchemaGen on these examples"
        )
    try:
        trained = session.train(
            root, len(contents.classes), parameters, outputs["model_run"].uri, context
        )
    except FloatingPointError as error:
        raise PipelineError(str(error)) from None

    model = outputs["model"]
    export.save(
        trained.model,
        contents.classes,
        session.preprocessing(parameters),
        model.uri / "Format-Serving",
    )
    (model.uri / "Format-Keras").mkdir()
    trained.model.save(model.uri / "Format-Keras" / "model.keras")
    files.write_json(model.uri / "classes.json", contents.classes)
    model.properties.update(
        architecture=parameters.model,
        parameters=trained.model.count_params(),
        preprocessing=dataclasses.asdict(session.preprocessing(parameters)),
    )
    outputs["model_run"].properties.update(trained.last_epoch)
    changes = "".join(f" {name}={value}" for name, value in parameters.model_arguments.items())
    return Outcome(
        f"{parameters.model}{changes}, {trained.model.count_params():,} parameters, "
        f"eval accuracy {trained.last_epoch['eval_accuracy']:.2%} after {parameters.epochs} epochs"
    )
