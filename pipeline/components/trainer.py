"""Trainer: builds a network, trains it and exports what is served."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration import fingerprint
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
# Asks for nothing where None leaves it to the recipe.
NONE = "none"
# The parameters that a recipe has too, and that may be left to it.
OVERRIDES = (
    *("epochs", "batch_size", "optimizer", "learning_rate", "schedule", "milestones"),
    *("warmup_epochs", "momentum", "weight_decay", "weight_decay_form", "decay_norm_and_bias"),
    *("loss", "label_smoothing", "ema_decay", "clip_norm", "accumulate_steps"),
    *("random_crop", "random_shift", "padding", "random_flip", "random_rotation", "random_zoom"),
    *("brightness", "contrast", "saturation", "lighting"),
    *("rand_augment", "rand_augment_magnitude", "random_erasing", "mixup", "cutmix"),
    *("repeated_augmentation", "drop_path_rate", "dropout_rate"),
)

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
Least = Annotated[float, Field(ge=0.0)]
Turn = Annotated[float, Field(ge=0.0, le=0.5)]


@parameters
class Parameters:
    """Network, recipe, input, precision, strategy, checkpoints and health.

    What is None where the recipe has a value too is left to the recipe.

    Args:
        model: A name of `keras_resnet.list_models()`, or `module:function` for any Keras model:
            the function is called with `input_shape` and `classes` and returns a model that maps
            images to logits, without a softmax.
        model_arguments: Further arguments of `keras_resnet.create` or of that function.
        init_from: Trained weights to begin with: one of `keras_resnet.list_weights()`, `"imagenet"`
            for the best of the network, or a file; the classifier starts at random where it has
            other classes. None for a random start.
        freeze_stages: How many stages of the network stay as they are, from the first on, and the
            stem with them; their batch normalisation too.
        head_learning_rate: What the learning rate of the classifier is multiplied by; 10 is usual
            for one that starts at random behind trained stages.
        stage_decay: What the learning rate of a stage is multiplied by from each stage behind it to
            the one before; 1 for the same rate in all.
        image_size: Height and width of the network's input, in pixels.
        interpolation: How images are resized; None for that of the weights that `init_from` names,
            else `"bilinear"`.
        mean: Subtracted from each channel, in the units of 8-bit pixels; None for that of the
            weights that `init_from` names, else of the training split.
        std: Each channel is divided by it; None in the same way.
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
        recipe: A name of `keras_resnet.recipes.list_recipes()`: optimizer, schedule, loss,
            augmentation and stochastic depth of a paper.
        recipe_arguments: Further fields of `keras_resnet.recipes.Recipe`, such as `beta_2` or
            `nesterov`, which have no key here.
        batch_size: Examples per step, of all replicas together.
        epochs: Passes over the training split.
        optimizer: `"sgd"`, `"adamw"` or `"lamb"`.
        learning_rate: Peak of the schedule, for whatever batch size. The recipe's own is that of
            its batch size, and follows another one as the recipe says.
        schedule: `"cosine"`, `"multistep"` or `"constant"`, after a linear warm-up.
        milestones: Where the multi-step schedule goes down, as shares of the training.
        warmup_epochs: Length of the warm-up.
        momentum: What the velocity of SGD keeps.
        weight_decay: λ.
        weight_decay_form: `"l2"`: λ·w is added to the gradient, as that of the penalty λ/2·‖w‖²;
            `"decoupled"`: as in AdamW and LAMB.
        decay_norm_and_bias: Whether λ also applies to weights with a single axis.
        loss: `"softmax"`, or `"bce"` for one sigmoid per class.
        label_smoothing: Share of the target that is spread over all classes.
        ema_decay: What a step keeps of the moving average of the weights, which is then what is
            evaluated and exported; 0 for none.
        clip_norm: Greatest norm of the gradient of all weights and replicas; 0 for no limit.
        accumulate_steps: Each batch is computed in so many parts, one after the other, which takes
            the memory of one part.
        class_weights: `"balanced"`: an example counts the more the rarer its class is.
        sampling: `"balanced"`: every class comes equally often.
        random_crop: Training images are random parts of so large a share of the picture, least and
            greatest; `"none"` for the centred part that is also evaluated.
        random_shift: Training images are shifted by up to so many pixels each way.
        padding: What comes in from outside: `"mirror"`, `"reflect"` or `"constant"`.
        random_flip: Whether training images are mirrored left to right at random.
        random_rotation: Training images are turned by up to so large a fraction of the full turn
            each way.
        random_zoom: Training images are made larger or smaller by up to so large a fraction.
        brightness: Colours are multiplied by 1 plus or minus up to so much.
        contrast: Their difference from the image's mean grey is.
        saturation: Their difference from the pixel's own grey is.
        lighting: Standard deviation of shifts along the principal components of natural colours.
        rand_augment: Number of RandAugment's operations for each image; 0 for none.
        rand_augment_magnitude: How strong they are; 10 is strong.
        random_erasing: Probability that a rectangle of an image is erased.
        mixup: α of MixUp; 0 for none.
        cutmix: α of CutMix; 0 for none.
        repeated_augmentation: How often each image of a batch is in it, each time changed anew.
        drop_path_rate: Stochastic depth of the network.
        dropout_rate: Dropout in front of its classifier.
        cache_mb: Decoded images are kept in memory where a split takes no more than is left of so
            many MiB.
        steps_per_loop: Steps inside one call of the compiled loop.
        checkpoint_seconds: A checkpoint is written when so many seconds have passed since the last
            one; 0 for never.
        checkpoint_steps: And whenever so many steps have been done; 0 for never.
        keep_last: How many checkpoints are kept.
        rollbacks: How often a training that is no longer in order may go back to its last good
            checkpoint, in all: the loss or the gradient is no finite number, or the loss explodes.
        rollback_factor: What the learning rate is multiplied by each time.
        explosion: A loss explodes when it stays above so many times what guessing gives; 0 to let
            it.
        explosion_steps: Steps on end for which it has to.
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
    init_from: NonEmpty | None = None
    freeze_stages: NonNegative = 0
    head_learning_rate: Scale = 1.0
    stage_decay: Share = 1.0
    image_size: tuple[Positive, Positive] = (32, 32)
    interpolation: Literal["bilinear", "bicubic"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[Scale, Scale, Scale] | None = None
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    strategy: Literal["mirrored", "one_device", "multi_worker"] = "mirrored"
    bn_synchronized: bool = True
    xla: bool | None = None
    deterministic: bool | None = None
    recipe: NonEmpty = "default"
    recipe_arguments: dict[str, Any] = Field(default_factory=dict)
    batch_size: Positive | None = None
    epochs: Positive | None = None
    optimizer: Literal["sgd", "adamw", "lamb"] | None = None
    learning_rate: Scale | None = None
    schedule: Literal["cosine", "multistep", "constant"] | None = None
    milestones: tuple[Share, ...] | None = None
    warmup_epochs: Least | None = None
    momentum: Decay | None = None
    weight_decay: Least | None = None
    weight_decay_form: Literal["l2", "decoupled"] | None = None
    decay_norm_and_bias: bool | None = None
    loss: Literal["softmax", "bce"] | None = None
    label_smoothing: Decay | None = None
    ema_decay: Decay | None = None
    clip_norm: Least | None = None
    accumulate_steps: Positive | None = None
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    random_crop: tuple[Share, Share] | Literal["none"] | None = None
    random_shift: NonNegative | None = None
    padding: Literal["mirror", "reflect", "constant"] | None = None
    random_flip: bool | None = None
    random_rotation: Turn | None = None
    random_zoom: Decay | None = None
    brightness: Fraction | None = None
    contrast: Fraction | None = None
    saturation: Fraction | None = None
    lighting: Least | None = None
    rand_augment: NonNegative | None = None
    rand_augment_magnitude: Least | None = None
    random_erasing: Fraction | None = None
    mixup: Least | None = None
    cutmix: Least | None = None
    repeated_augmentation: Positive | None = None
    drop_path_rate: Decay | None = None
    dropout_rate: Decay | None = None
    cache_mb: NonNegative = 2048
    steps_per_loop: Positive = _STEPS_PER_LOOP
    checkpoint_seconds: float = Field(default=300.0, ge=0.0)
    checkpoint_steps: NonNegative = 0
    keep_last: Positive = 2
    rollbacks: NonNegative = 3
    rollback_factor: float = Field(default=0.5, gt=0.0, lt=1.0)
    explosion: float = Field(default=3.0, ge=0.0)
    explosion_steps: Positive = 20
    profile_steps: tuple[Positive, Positive] | None = None
    insight_every: NonNegative = 1000
    export: Literal["last", "best"] = "last"
    seed: NonNegative = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Parameters":
        if own := sorted(_OWN_ARGUMENTS & set(self.model_arguments)):
            raise ValueError(f"model_arguments must not hold {', '.join(own)}: Trainer sets it")
        if keys := sorted(set(OVERRIDES) & set(self.recipe_arguments)):
            raise ValueError(
                f"recipe_arguments must not hold {', '.join(keys)}: give it beside them, as a key "
                "of trainer"
            )
        if self.random_shift is not None and self.random_shift > min(self.image_size):
            raise ValueError(
                f"random_shift must be at most the image size {list(self.image_size)}, "
                f"not {self.random_shift}"
            )
        if self.profile_steps and self.profile_steps[0] > self.profile_steps[1]:
            raise ValueError(
                "profile_steps must be the first and then the last step, "
                f"not {list(self.profile_steps)}"
            )
        if isinstance(self.random_crop, tuple) and self.random_crop[0] > self.random_crop[1]:
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
    from pipeline.training import initialization, network, recipe

    settled, _ = recipe.settle(parameters)
    try:
        model = network.build(settled, classes=2, precision="float32")
    except (TypeError, ValueError) as error:
        raise UsageError(f"trainer.model {parameters.model!r}: {error}") from None
    initialization.check(model, settled)


def external(parameters: Parameters) -> dict[str, str] | None:
    """Returns the SHA-256 of what lies outside the package and the training depends on.

    That is the file of weights that it begins with; or, of a network of the user's own, the
    module that is named and what it imports from its own folder.
    """
    if parameters.init_from is not None and Path(parameters.init_from).is_file():
        return {parameters.init_from: files.sha256_file(Path(parameters.init_from))}
    if CUSTOM not in parameters.model:
        return None
    # Where there is no such module, `check` says so.
    return fingerprint.code(parameters.model.partition(CUSTOM)[0]) or None


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Format-Serving/` (a SavedModel), `Format-Keras/model.keras`, TensorBoard logs, and
    `settings.json`, the effective value of everything that was left to be found out.

    A killed training goes on from its last checkpoint, in `context.state`. Of several workers, the
    first alone writes the outputs. Where there are `hyperparameters`, their values stand for those
    of the parameters.
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
    from pipeline.training import recipe, session
    from pipeline.tuning import outcome

    if "hyperparameters" in inputs:
        parameters = outcome.applied(parameters, inputs["hyperparameters"].uri)
    settled, _ = recipe.settle(parameters)
    root = inputs["examples"].uri
    contents = manifest.load(root)
    counts = contents.split("train").class_counts
    if missing := [name for name in contents.classes if not counts[name]]:
        raise DataError(
            f"the training split has no usable image of {', '.join(missing)}; "
            f"{root / 'quarantine.jsonl'} says which were not used, and why"
        )
    expected = preprocessing(parameters, inputs)
    try:
        trained = session.train(
            root, contents, parameters, expected, outputs["model_run"].uri, context
        )
    except FloatingPointError as error:
        raise PipelineError(str(error)) from None
    if trained.worker:
        return Outcome(f"worker {trained.worker}; the first one writes the model")
    _export(trained, contents, parameters, expected, outputs["model"], context)
    outputs["model_run"].properties.update(trained.figures)
    return Outcome(_result(trained, settled))


def preprocessing(parameters: Parameters, inputs: dict[str, Artifact]) -> "Preprocessing":
    """Returns what the network expects of its input.

    Args:
        parameters: Their mean and standard deviation are those of the weights that they begin with,
            or of the training split, where they name none.
        inputs: `statistics` of the training split.
    """
    from pipeline.training import initialization
    from pipeline.training.preprocessing import Preprocessing

    mean, std, interpolation = parameters.mean, parameters.std, parameters.interpolation
    if (of_weights := initialization.expected(parameters)) is not None:
        mean, std = mean or of_weights.mean, std or of_weights.std
        interpolation = interpolation or of_weights.interpolation
    if mean is None or std is None:
        found_mean, found_std = protos.channel_moments(inputs["statistics"])
        mean = mean or found_mean
        std = std or tuple(max(_LEAST_STD, value) for value in found_std)
    height, width = parameters.image_size
    return Preprocessing(
        height=height,
        width=width,
        mean=mean,
        std=std,
        interpolation=interpolation or "bilinear",
    )


def _export(
    trained: "Trained",
    contents: Manifest,
    parameters: Parameters,
    expected: "Preprocessing",
    model: Artifact,
    context: Context,
) -> None:
    from pipeline.serving import export

    destination = model.uri / "Format-Serving"
    export.save(trained.model, contents.classes, expected, destination, context.say)
    (model.uri / "Format-Keras").mkdir()
    trained.model.save(model.uri / "Format-Keras" / "model.keras")
    files.write_json(model.uri / "classes.json", contents.classes)
    model.properties.update(
        architecture=parameters.model,
        arguments=parameters.model_arguments,
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
