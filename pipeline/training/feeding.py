"""What one training is fed with: the pictures of both splits, in their order, shared out."""

from collections.abc import Callable

import tensorflow as tf

from keras_resnet.recipes import Augmentation, Recipe
from pipeline.components.trainer import Parameters
from pipeline.training import insight, optimization, order
from pipeline.training.inputs import Batch, Images, Share
from pipeline.training.preprocessing import Preprocessing
from pipeline.training.records import Records

_MIB = 1 << 20
_SHOWN = 16  # pictures of a batch, at most


class Feed:
    """The input of a training.

    Args:
        strategy: What is trained under.
        splits: The records of `train` and perhaps of `eval`.
        parameters: Those of Trainer, settled.
        recipe: As it is trained.
        augmentation: What training images go through on the device.
        expected: What the network expects of its input.
        say: Prints a line for the person who watches.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        splits: dict[str, Records],
        parameters: Parameters,
        recipe: Recipe,
        augmentation: Augmentation,
        expected: Preprocessing,
        say: Callable[[str], None],
    ):
        self._strategy = strategy
        self._batch_size = recipe.batch_size
        self._parts = recipe.accumulate_steps
        self.images = {
            "train": Images(
                splits["train"],
                expected,
                recipe.random_crop,
                parameters.seed,
                augmentation.interpolates,
                recipe.crop_ratio,
            )
        }
        if "eval" in splits:
            self.images["eval"] = Images(splits["eval"], expected)
        self._cache(parameters.cache_mb * _MIB, say)
        self._order = self._ordered(parameters, recipe)
        self._weights = optimization.class_weights(
            parameters.class_weights, self.images["train"].labels
        )

    def training(self, start: int, stop: int) -> tf.data.Dataset:
        """Returns the batches of the steps `start` to `stop - 1`, distributed."""
        images = self.images["train"]
        return self._distributed(
            lambda share: images.training(self._order, share, start, stop, self._weights),
            self._batch_size,
            self._parts,
        )

    def held_out(self) -> tf.data.Dataset | None:
        """Returns the batches of the split `eval`, distributed, or None where there is none.

        They take no more memory than what training computes at once.
        """
        images = self.images.get("eval")
        if images is None:
            return None
        return self._distributed(images.evaluation, self._batch_size // self._parts)

    @property
    def evaluation_steps(self) -> int:
        """The number of batches that `held_out` has."""
        return self.images["eval"].evaluation_steps(Share(self._batch_size // self._parts))

    def shown(self, step: int) -> Batch:
        """Returns the first pictures of the batch that comes after so many steps."""
        size = self._batch_size
        # As if the batch were that of so many replicas, of which the first is shown.
        fitting = [number for number in range(1, _SHOWN + 1) if size % number == 0]
        # In pairs, as they may be mixed.
        number = max([n for n in fitting if n % 2 == 0] or fitting)
        share = Share(size, size // number)
        (batch,) = self.images["train"].training(self._order, share, step, step + 1)
        return batch

    def measured(self, step: int) -> Batch:
        """Returns the part of the batch that comes after so many steps that insight looks at."""
        replicas = self._strategy.num_replicas_in_sync
        share = Share(self._batch_size, insight.parts(self._batch_size, replicas * self._parts))
        (batch,) = self.images["train"].training(self._order, share, step, step + 1)
        return batch

    def names(self, step: int) -> list[str]:
        """Returns the names of the files of the batch that comes after so many steps."""
        rows = self._order.rows(step * self._batch_size, self._batch_size)
        return self.images["train"].names(rows)

    def _cache(self, left: int, say: Callable[[str], None]) -> None:
        """Decodes once what is the same each time and fits into memory."""
        for name, images in self.images.items():
            size = images.decoded_bytes
            if size is not None and size <= left:
                left -= size
                if size > 64 * _MIB:
                    say(f"decoding {len(images):,} images of {name} into memory")
                images.cache()

    def _ordered(self, parameters: Parameters, recipe: Recipe) -> order.Order:
        images = self.images["train"]
        if parameters.sampling == "balanced":
            found = order.Balanced(images.labels, parameters.seed)
        else:
            found = order.Shuffled(len(images), parameters.seed)
        if recipe.repeated_augmentation > 1:
            found = order.Repeated(found, recipe.repeated_augmentation, recipe.batch_size)
        return found

    def _distributed(
        self, make: Callable[[Share], tf.data.Dataset], batch_size: int, parts: int = 1
    ) -> tf.data.Dataset:
        """Lets every process feed its own replicas, and nothing else."""

        def feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
            replicas = context.num_replicas_in_sync
            local = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * local
            return make(Share(batch_size, replicas, local, first, parts))

        return self._strategy.distribute_datasets_from_function(feed)


def mismatch(recipe: Recipe, replicas: int) -> str | None:
    """Returns why a batch cannot be shared out as the recipe wants it, or None.

    Args:
        recipe: As it is trained.
        replicas: How many share a batch.
    """
    size, parts, times = recipe.batch_size, recipe.accumulate_steps, recipe.repeated_augmentation
    if size % replicas:
        return f"cannot be shared out equally among {replicas} replicas"
    if size % (replicas * parts):
        return (
            f"cannot be shared out equally among {replicas} replicas in trainer.accumulate_steps "
            f"{parts} parts"
        )
    if recipe.mixes and size // (replicas * parts) % 2:
        return (
            f"gives {size // (replicas * parts)} images to each of {replicas} replicas at once, "
            "and the recipe mixes them in pairs: that has to be an even number"
        )
    if times > 1 and size <= times:
        return f"leaves one image for a batch, with trainer.repeated_augmentation {times}"
    return None
