"""Images in memory as batches for `fit`, changed as a recipe says, on every backend."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_resnet import _backend
from keras_resnet._validation import check_integer
from keras_resnet.recipes.draws import Draws

if TYPE_CHECKING:
    from keras_resnet.recipes.recipe import Recipe

# Of channels that hardly vary: one of 256 steps.
_LEAST_DEVIATION = 1.0


class Batches(keras.utils.PyDataset):
    """Batches of normalized images and of targets.

    While training, the order of an epoch and what each image goes through follow from the seed
    alone; a batch is augmented in one compiled call, on the device; what is left over after the
    last whole batch of an epoch waits for another epoch. `fit` shuffles the batches once more unless
    it is told `shuffle=False`. Otherwise every image comes once, as it
    is, and the last batch may be smaller.

    Args:
        recipe: The recipe.
        images: uint8 or float32 `(images, height, width, channels)`, from 0 to 255.
        labels: Integers `(images,)`.
        classes: Number of classes; None for the greatest label and one.
        batch_size: Images of a batch; None for the recipe's, in micro-batches where it accumulates.
        mean: Subtracted from each channel; None for that of the images.
        std: What each channel is divided by; None for that of the images.
        size: Height and width of the batches; None for those of the images. They are scaled while
            training only: images to be evaluated have to have this size.
        training: Whether batches are shuffled and augmented.
        seed: Determines both.

    Example:

    ```python
    training = recipe.batches(images, labels)
    evaluation = training.evaluation(others, theirs)
    ```

    Raises:
        ValueError: If images and labels do not go together, or there are fewer images than a batch
            has.
    """

    def __init__(
        self,
        recipe: "Recipe",
        images: np.ndarray,
        labels: np.ndarray,
        classes: int | None = None,
        batch_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: tuple[int, int] | None = None,
        training: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise ValueError(
                "`images` must be (images, height, width, channels) and `labels` have a number for "
                f"each. Received: images {images.shape}, labels {labels.shape}"
            )
        wanted = recipe.batch_size // recipe.accumulate_steps if batch_size is None else batch_size
        check_integer("batch_size", wanted)
        if training and wanted > len(images):
            raise ValueError(
                f"`batch_size` must be at most the number of images, {len(images)}. "
                f"Received: batch_size={wanted}"
            )
        self.batch_size = wanted
        self.classes = int(labels.max()) + 1 if classes is None else classes
        self.mean = np.mean(images, axis=(0, 1, 2)) if mean is None else np.asarray(mean)
        deviation = np.std(images, axis=(0, 1, 2)) if std is None else np.asarray(std)
        self.std = np.maximum(deviation, _LEAST_DEVIATION)
        self._recipe, self._images, self._labels = recipe, images, labels.astype("int32")
        self._training, self._seed, self._epoch = training, seed, 0
        self._order = self._shuffled()
        fill = tuple(float(value) for value in self.mean)
        augmentation = recipe.augmentation(fill=fill, size=size)
        draws = Draws(seed)

        def prepare(images: Any, labels: Any, step: Any) -> tuple[Any, Any]:
            targets = recipe.targets(labels, self.classes)
            if training:
                numbers = draws.at(step, images.shape[0])
                images, targets = augmentation(images, targets, numbers)
            images = keras.ops.cast(images, "float32")
            return (images - self.mean.astype("float32")) / self.std.astype("float32"), targets

        self._prepare = _backend.jit(prepare)

    def evaluation(self, images: np.ndarray, labels: np.ndarray) -> "Batches":
        """Returns batches of other images, normalized like these, each once and as it is."""
        return Batches(
            self._recipe,
            images,
            labels,
            self.classes,
            self.batch_size,
            self.mean,
            self.std,
            training=False,
        )

    def _shuffled(self) -> np.ndarray:
        """Returns which image comes when in this epoch."""
        count = len(self._images)
        if not self._training:
            return np.arange(count)
        order = np.random.default_rng((self._seed, self._epoch)).permutation(count)
        times = self._recipe.repeated_augmentation
        if times == 1:
            return order
        # Each batch has its images several times, one after the other has come once: neighbours,
        # which are mixed, are different images.
        distinct = math.ceil(self.batch_size / times)
        batches = count // self.batch_size
        chosen = [order[first * distinct :][:distinct] for first in range(batches)]
        return np.concatenate([np.tile(part, times)[: self.batch_size] for part in chosen])

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        whole = len(self._order) / self.batch_size
        return math.floor(whole) if self._training else math.ceil(whole)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Returns images float32 `(examples, height, width, channels)`, and targets."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} batches, from 0. Received: {index}")
        chosen = self._order[index * self.batch_size :][: self.batch_size]
        step = np.array(self._epoch * len(self) + index, np.int32)
        images, targets = self._prepare(self._images[chosen], self._labels[chosen], step)
        return keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(targets)

    def on_epoch_end(self) -> None:
        """Shuffles anew."""
        self._epoch += 1
        self._order = self._shuffled()
