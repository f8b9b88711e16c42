"""What a training does, as one description: optimizer, schedule, loss, augmentation."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_resnet._validation import check_integer
from keras_resnet.recipes import losses, optimizers, schedules
from keras_resnet.recipes._fields import validate
from keras_resnet.recipes.augmentation import Augmentation
from keras_resnet.recipes.batches import Batches
from keras_resnet.recipes.rand_augment import RandAugment


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Describes how a network is trained; `keras_resnet.recipes.get` has those of the papers.

    The defaults are plain SGD on images as they are. A changed copy comes from
    `dataclasses.replace`.

    Args:
        name: Name of the recipe.
        reference: Paper and section that the numbers are from.
        epochs: Passes over the training images.
        batch_size: Examples per step of the optimizer, of all replicas and micro-batches.
        optimizer: `"sgd"`, `"adamw"` or `"lamb"` (`keras_resnet.recipes.SGD`, ...).
        learning_rate: Peak of the schedule at `batch_size`.
        learning_rate_scaling: How the learning rates change with another batch: `"linear"`,
            `"sqrt"` or `"none"`.
        schedule: `"cosine"`, `"multistep"` or `"constant"`.
        milestones: Where the multi-step schedule goes down, as shares of the training.
        decay_factor: What the learning rate is multiplied with there.
        warmup_epochs: Length of the linear warm-up.
        warmup_learning_rate: Where it starts; None for the peak divided by the warm-up's steps.
        minimum_learning_rate: Where the cosine ends.
        momentum: What the velocity of SGD keeps.
        nesterov: Whether the momentum of SGD is Nesterov's.
        beta_1: What the mean of the gradients keeps (AdamW, LAMB).
        beta_2: What the mean of their squares keeps.
        epsilon: Added to the root of the latter.
        weight_decay: λ.
        weight_decay_form: `"l2"`: the gradient of λ/2·‖w‖² is added to that of the loss;
            `"decoupled"`: as in AdamW and LAMB.
        decay_norm_and_bias: Whether λ also applies to parameters with a single axis.
        loss: `"softmax"`, or `"bce"` for one sigmoid per class.
        label_smoothing: Share of each target that is spread over all classes.
        bce_threshold: Targets above it count as 1 and others as 0 (`"bce"`); None to keep them.
        ema_decay: What a step keeps of the moving average of the weights; 0 for none.
        clip_norm: Greatest norm of the whole gradient; None for any.
        accumulate_steps: Micro-batches per step of the optimizer.
        random_crop: Least and greatest area of the random part of each image that is trained on,
            as shares of the image; None for the whole.
        crop_ratio: Least and greatest width of that part divided by its height.
        random_shift: Images are shifted by up to so many pixels each way, which is to pad and crop.
        padding: What comes in from outside: `"mirror"` the image with its edge twice, `"reflect"`
            with its edge once, `"constant"` one colour (`keras_resnet.recipes.Augmentation`).
        random_flip: Whether images are mirrored left to right, each with probability 1/2.
        random_rotation: Images are turned by up to so large a fraction of the full turn each way.
        random_zoom: Images are made larger or smaller by up to so large a fraction of their size.
        brightness: Factors of brightness are 1 plus or minus up to so much.
        contrast: The same for contrast.
        saturation: The same for saturation.
        lighting: Standard deviation of the shifts along the principal components of ImageNet's
            colours.
        rand_augment: Number of RandAugment's operations for each image; 0 for none.
        rand_augment_magnitude: How strong they are; 10 is strong.
        rand_augment_std: Standard deviation of that magnitude between operations.
        rand_augment_probability: Probability of each operation.
        rand_augment_increasing: Whether all operations grow with the magnitude (timm's `inc1`).
        random_erasing: Probability that a rectangle of an image is erased.
        mixup: α of the Beta distribution of MixUp's shares; 0 for no MixUp.
        cutmix: α of CutMix; 0 for no CutMix.
        mix_probability: Probability that a pair of images is mixed.
        switch_probability: Probability of CutMix where there are both.
        repeated_augmentation: How often each image of a batch is in it, each time augmented anew.
        drop_path_rate: Stochastic depth of the network (`keras_resnet.ResNetConfig`).
        drop_path_mode: `"sample"` or `"batch"`.
        drop_path_schedule: `"linear"`, `"timm"` or `"stage"`.
        dropout_rate: Dropout before the classifier.
        train_size: Side of the images that are trained on; None where the paper has several.
        test_size: Side of the images that are tested on.
        test_crop: Share of the resized image's side that is tested on.

    Raises:
        ValueError: If a field is out of range or does not go with another. The message names the
            field, what was received and what is allowed.
    """

    name: str = "custom"
    reference: str = ""
    epochs: int = 90
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    learning_rate_scaling: str = "linear"
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    decay_factor: float = 0.1
    warmup_epochs: float = 0.0
    warmup_learning_rate: float | None = None
    minimum_learning_rate: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.0
    weight_decay_form: str = "l2"
    decay_norm_and_bias: bool = False
    loss: str = "softmax"
    label_smoothing: float = 0.0
    bce_threshold: float | None = None
    ema_decay: float = 0.0
    clip_norm: float | None = None
    accumulate_steps: int = 1
    random_crop: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    random_shift: int = 0
    padding: str = "mirror"
    random_flip: bool = False
    random_rotation: float = 0.0
    random_zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    lighting: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: float = 9.0
    rand_augment_std: float = 0.0
    rand_augment_probability: float = 1.0
    rand_augment_increasing: bool = True
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5
    repeated_augmentation: int = 1
    drop_path_rate: float = 0.0
    drop_path_mode: str = "sample"
    drop_path_schedule: str = "timm"
    dropout_rate: float = 0.0
    train_size: int | None = None
    test_size: int | None = None
    test_crop: float = 1.0

    def __post_init__(self) -> None:
        validate(self)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs, so that batches and their parts must be even."""
        return bool(self.mix_probability and (self.mixup or self.cutmix))

    def to_dict(self) -> dict[str, Any]:
        """The fields as what JSON can hold; `Recipe.from_dict` is the way back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Returns the recipe with these fields; others have their defaults.

        Raises:
            ValueError: If a field is unknown or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=2)
                perhaps = f", perhaps {' or '.join(close)}" if close else ""
                raise ValueError(f"A recipe has no field {name!r}{perhaps}.")
        return cls(**values)

    def learning_rate_at(self, batch_size: int | None = None) -> float:
        """Returns the peak of the schedule for a batch size.

        Args:
            batch_size: Examples per step of the optimizer; None for the recipe's.
        """
        return self.learning_rate * self._scale(batch_size)

    def make_schedule(
        self, steps_per_epoch: int, epochs: int | None = None, batch_size: int | None = None
    ) -> schedules.Schedule:
        """Returns the learning rate of every step.

        Args:
            steps_per_epoch: Steps of the optimizer in an epoch.
            epochs: Another length of the training: the schedule shrinks or grows with it, but not
                the warm-up.
            batch_size: Another batch size; the learning rates follow `learning_rate_scaling`.
        """
        check_integer("steps_per_epoch", steps_per_epoch)
        steps = steps_per_epoch * (self.epochs if epochs is None else epochs)
        check_integer("epochs", steps // steps_per_epoch)
        scale = self._scale(batch_size)
        peak = self.learning_rate * scale
        warmup = min(steps - 1, round(self.warmup_epochs * steps_per_epoch))
        start = self.warmup_learning_rate
        return schedules.Schedule(
            peak,
            steps,
            kind=self.schedule,
            warmup_steps=warmup,
            # The first step of a warm-up from 0 would do nothing.
            warmup_learning_rate=peak / max(1, warmup) if start is None else start * scale,
            minimum_learning_rate=self.minimum_learning_rate * scale,
            milestones=[round(share * steps) for share in self.milestones],
            decay_factor=self.decay_factor,
        )

    def _scale(self, batch_size: int | None) -> float:
        if batch_size is None:
            return 1.0
        check_integer("batch_size", batch_size)
        ratio = batch_size / self.batch_size
        return {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0}[self.learning_rate_scaling]

    def make_optimizer(
        self,
        steps_per_epoch: int,
        epochs: int | None = None,
        batch_size: int | None = None,
        multipliers: Mapping[str, float] | None = None,
        **arguments: Any,
    ) -> keras.optimizers.Optimizer:
        """Returns the optimizer with its schedule and weight decay.

        It neither clips, averages nor accumulates, which a loop does before and after it; `compile`
        has Keras do so.

        Args:
            steps_per_epoch: As in `make_schedule`, like `epochs` and `batch_size`.
            epochs: See there.
            batch_size: See there.
            multipliers: Of the learning rate of parts of the network, by pattern
                (`keras_resnet.stage_learning_rates`).
            **arguments: What every Keras optimizer takes, such as `global_clipnorm`; a
                `learning_rate` takes the place of the schedule.
        """
        arguments.setdefault(
            "learning_rate", self.make_schedule(steps_per_epoch, epochs, batch_size)
        )
        decay = {
            "decay": self.weight_decay,
            "form": self.weight_decay_form,
            "decay_norm_and_bias": self.decay_norm_and_bias,
        }
        kinds = {"sgd": optimizers.SGD, "adamw": optimizers.AdamW, "lamb": optimizers.LAMB}
        if multipliers:
            from keras_resnet import finetuning  # Which builds upon the optimizers here.

            kinds = finetuning.OPTIMIZERS
            arguments["multipliers"] = multipliers
        if self.optimizer == "sgd":
            own = {"momentum": float(self.momentum), "nesterov": self.nesterov}
        else:
            own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return kinds[self.optimizer](**own, **decay, **arguments)

    def targets(self, labels: Any, classes: int) -> Any:
        """Returns smoothed targets, float32 `(examples, classes)`, of integer labels."""
        return losses.targets(labels, classes, self.label_smoothing)

    def loss_per_example(self, targets: Any, logits: Any) -> Any:
        """Returns the loss of each example, float32 `(examples,)`.

        Args:
            targets: `(examples, classes)`, as `targets` and the augmentation return them.
            logits: `(examples, classes)`, of any float type.
        """
        if self.loss == "bce":
            return losses.bce_loss(targets, logits, self.bce_threshold)
        return losses.softmax_loss(targets, logits)

    def make_loss(self) -> keras.losses.Loss:
        """Returns the loss for `compile`, of targets and logits."""
        return losses.RecipeLoss(self.loss, self.bce_threshold)

    def augmentation(
        self, crop: bool = True, fill: Any = 128.0, size: tuple[int, int] | None = None
    ) -> Augmentation:
        """Returns what training images go through on the device.

        Args:
            crop: Whether it cuts out random parts; False where images are cut when they are read.
            fill: The colour outside of images, and of what is erased; a number or one for each
                channel, from 0 to 255. The mean of the data is zero to the network.
            size: Height and width of what comes out; None for those of the images.
        """
        rand_augment = RandAugment(
            operations=self.rand_augment,
            magnitude=self.rand_augment_magnitude,
            std=self.rand_augment_std,
            probability=self.rand_augment_probability,
            increasing=self.rand_augment_increasing,
        )
        return Augmentation(
            shift=self.random_shift,
            flip=self.random_flip,
            rotation=self.random_rotation,
            zoom=self.random_zoom,
            padding=self.padding,
            fill=fill,
            crop=self.random_crop if crop else None,
            crop_ratio=self.crop_ratio,
            size=size,
            rand_augment=rand_augment if self.rand_augment else None,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            lighting=self.lighting,
            erasing=self.random_erasing,
            mixup=self.mixup,
            cutmix=self.cutmix,
            mix_probability=self.mix_probability,
            switch_probability=self.switch_probability,
        )

    def batches(self, images: Any, labels: Any, **arguments: Any) -> Batches:
        """Returns images in memory as batches for `fit`; arguments as of `Batches`."""
        return Batches(self, images, labels, **arguments)

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What the recipe asks of the network, for `keras_resnet.create`: only what is set."""
        found = {}
        if self.drop_path_rate:
            found = {
                name: getattr(self, name)
                for name in ("drop_path_rate", "drop_path_mode", "drop_path_schedule")
            }
        if self.dropout_rate:
            found["dropout_rate"] = self.dropout_rate
        return found

    def compile(
        self,
        model: keras.Model,
        steps_per_epoch: int,
        epochs: int | None = None,
        batch_size: int | None = None,
        **arguments: Any,
    ) -> None:
        """Compiles a model for `fit` with the optimizer, the loss and accuracy.

        Clipping, the moving average and accumulation are Keras': the average takes in trainable
        weights alone, with `ema_decay` from the first step on, and takes their place at the end of
        `fit`; with accumulation, a batch of `fit` is a micro-batch.

        Args:
            model: Maps images to logits, `classifier_activation=None`.
            steps_per_epoch: Batches of `fit` in an epoch.
            epochs: As in `make_schedule`.
            batch_size: As in `make_schedule`: examples per step of the optimizer.
            **arguments: Further arguments of `keras.Model.compile`.

        Raises:
            ValueError: If the model ends in a softmax.
        """
        last = getattr(model.layers[-1], "activation", None)
        if last in (keras.activations.softmax, keras.activations.sigmoid):
            raise ValueError(
                "`model` must put out logits, as the loss is computed from them; build it with "
                f"classifier_activation=None. Received: a model that ends in {last.__name__}"
            )
        keras_options: dict[str, Any] = {}
        if self.clip_norm:
            keras_options["global_clipnorm"] = float(self.clip_norm)
        if self.ema_decay:
            # Keras averages after every micro-batch.
            momentum = float(self.ema_decay) ** (1 / self.accumulate_steps)
            keras_options.update(use_ema=True, ema_momentum=momentum)
        if self.accumulate_steps > 1:
            keras_options["gradient_accumulation_steps"] = self.accumulate_steps
        arguments.setdefault("metrics", ["accuracy"])
        model.compile(
            optimizer=self.make_optimizer(steps_per_epoch, epochs, batch_size, **keras_options),
            loss=self.make_loss(),
            **arguments,
        )
