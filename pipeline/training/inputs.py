"""The input of the training loop: full batches without end for training, every example once for
evaluation; 8-bit pixels, decoded in parallel or once and for all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipeline.orchestration.artifact import Progress
from pipeline.training import crops
from pipeline.training.order import Order
from pipeline.training.preprocessing import (
    CHANNELS,
    Preprocessing,
    decode,
    resize,
    scaled,
    to_bytes,
)
from pipeline.training.records import Records

_AUTOTUNE = tf.data.AUTOTUNE
_CHUNK = 64
_AHEAD = 2  # batches of each replica that wait for it
# The sizes at which a JPEG can be decoded: all pixels, or one of so many in each direction.
_SCALES = (1, 2, 4, 8)

# Types and shapes of what belongs to an example: its row, weight, step and place; and in front of
# the last three its file, the scale, the part and the label.
_REST = ((tf.float32, ()), (tf.int64, ()), (tf.int64, ()))
_PLAN = ((tf.int64, ()), *_REST)
_READ = ((tf.string, ()), (tf.int32, ()), (tf.int32, (4,)), (tf.int64, ()), *_REST)


class Batch(NamedTuple):
    """What one replica gets for one step.

    Args:
        images: uint8 of shape (examples, height, width, 3).
        labels: int64 of shape (examples,).
        weights: What each example counts, float32 of shape (examples,).
        steps: The number of the step, from 0, once for each example, int64.
        places: Place of each example in the global batch, int64 of shape (examples,).
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    steps: tf.Tensor
    places: tf.Tensor


@dataclass(frozen=True)
class Share:
    """The part of every global batch that this process feeds.

    Args:
        batch_size: Examples in a batch, of all replicas together.
        replicas: Replicas in all processes; they divide `batch_size`.
        local: Replicas in this process.
        first: Number of the first of these among all.
        parts: A replica gets its part of a batch in so many batches of its own.
    """

    batch_size: int
    replicas: int = 1
    local: int = 1
    first: int = 0
    parts: int = 1

    @property
    def per_replica(self) -> int:
        """Examples in what one replica gets at once."""
        return self.batch_size // (self.replicas * self.parts)

    def place(self, element: int) -> tuple[int, int]:
        """Returns of the batch that is fed as number `element` to which step it belongs, and the
        place of its first example in the global batch."""
        part, replica = divmod(element, self.local)
        step, part = divmod(part, self.parts)
        return step, ((self.first + replica) * self.parts + part) * self.per_replica


class Images:
    """The pictures of a split as the network's 8-bit input, by their numbers.

    Args:
        records: Where their files lie.
        preprocessing: Gives the size that the network expects.
        crop_area: For training: a random part of so large a share of each picture is taken, least
            and greatest; None for the centred part that evaluation and serving see.
        seed: Determines the random parts.
        interpolated: For training: the device interpolates the pictures once more. Where they are
            not cached, their centred part is then decoded as random ones are, in half the time and
            not to the last bit as evaluation and serving see it.
        crop_ratio: Least and greatest width of a random part divided by its height.
    """

    def __init__(
        self,
        records: Records,
        preprocessing: Preprocessing,
        crop_area: tuple[float, float] | None = None,
        seed: int = 0,
        interpolated: bool = False,
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ):
        self.labels = records.labels
        self._records = records
        self._preprocessing = preprocessing
        self._crop_area = crop_area
        self._crop_ratio = crop_ratio
        self._seed = seed
        self._quick = bool(crop_area or interpolated)
        self._ways = _ways(records, preprocessing)
        self._pixels: tf.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def decoded_bytes(self) -> int | None:
        """What all pictures take in memory; None where they are different each time."""
        return None if self._crop_area else len(self) * int(np.prod(self._shape))

    @property
    def cached(self) -> bool:
        """Whether the pictures are in memory, decoded."""
        return self._pixels is not None

    def cache(self, progress: Progress = lambda done, total: None) -> None:
        """Decodes all pictures and keeps them in memory.

        Args:
            progress: Receives how many are done.
        """
        pixels = np.empty((len(self), *self._shape), np.uint8)
        done = 0

        def plan(chunk: int) -> tuple[np.ndarray, ...]:
            rows = np.arange(chunk * _CHUNK, min(len(self), (chunk + 1) * _CHUNK))
            return _plan(rows, rows, chunk)

        chunks = tf.data.Dataset.range(-(-len(self) // _CHUNK))
        for images, *_ in self._decoded(chunks, plan).batch(_CHUNK).prefetch(_AHEAD):
            pixels[done : done + len(images)] = images
            done += len(images)
            progress(done, len(self))
        with tf.device("CPU:0"):
            self._pixels = tf.constant(pixels)

    def names(self, rows: np.ndarray) -> list[str]:
        """Returns the names of the files of the pictures `rows`."""
        return self._records.names(rows)

    def training(
        self,
        order: Order,
        share: Share,
        start: int,
        stop: int,
        class_weights: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """Returns the full batches of the steps `start` to `stop - 1`.

        The stream runs across the ends of passes: no batch is padded and no example left out. For
        each step there is one batch after the other for each replica of this process, and as often
        as a replica gets its batch in parts.

        Args:
            order: Which picture comes when.
            share: The part of every global batch that is wanted.
            start: The first step.
            stop: The step after the last.
            class_weights: What an example of each class counts, float32; default is 1.
        """

        def plan(element: int) -> tuple[np.ndarray, ...]:
            step, first = share.place(int(element))
            rows = order.rows(step * share.batch_size + first, share.per_replica)
            weights = None if class_weights is None else class_weights[self.labels[rows]]
            return _plan(rows, np.arange(first, first + share.per_replica), step, weights)

        fed = share.parts * share.local  # in each step
        elements = tf.data.Dataset.range(start * fed, stop * fed)
        return self._batches(elements, plan, share)

    def evaluation(self, share: Share) -> tf.data.Dataset:
        """Returns every picture once, in order, the last batch filled up with ones of weight 0.

        A ragged last batch can crash batch normalisation on oneDNN under a strategy.

        Args:
            share: The part of every global batch that is wanted.
        """

        def plan(element: int) -> tuple[np.ndarray, ...]:
            step, first = share.place(int(element))
            places = np.arange(first, first + share.per_replica)
            rows = step * share.batch_size + places
            weights = (rows < len(self)).astype(np.float32)
            return _plan(np.minimum(rows, len(self) - 1), places, step, weights)

        return self._batches(
            tf.data.Dataset.range(self.evaluation_steps(share) * share.local), plan, share
        )

    def evaluation_steps(self, share: Share) -> int:
        """Returns the number of global batches that `evaluation` has."""
        return -(-len(self) // share.batch_size)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self._preprocessing.height, self._preprocessing.width, CHANNELS

    def _batches(self, elements: tf.data.Dataset, plan: Callable, share: Share) -> tf.data.Dataset:
        """Returns one batch for each element, as planned."""
        if self._pixels is None:
            dataset = self._decoded(elements, plan, share.batch_size if self._quick else None)
            dataset = dataset.batch(share.per_replica, drop_remainder=True)
        else:
            pixels, labels = self._pixels, tf.constant(self.labels)

            def gather(element: tf.Tensor) -> Batch:
                rows, *rest = _call(plan, element, _PLAN, share.per_replica)
                return Batch(tf.gather(pixels, rows), tf.gather(labels, rows), *rest)

            dataset = elements.map(gather, num_parallel_calls=_AUTOTUNE, deterministic=True)
        return dataset.prefetch(_AHEAD * share.local)

    def _decoded(
        self, elements: tf.data.Dataset, plan: Callable, batch_size: int | None = None
    ) -> tf.data.Dataset:
        """Returns the examples of all elements, one by one, decoded in parallel.

        Args:
            elements: Arguments of `plan`.
            plan: Says which examples they have.
            batch_size: Size of the global batch, where no more is decoded than training needs;
                None for what evaluation sees.
        """

        def read(element: int) -> tuple[np.ndarray, ...]:
            rows, weights, steps, places = plan(element)
            scales, boxes = self._parts(rows, steps, places, batch_size)
            encoded = self._records.encoded(rows)
            return encoded, scales, boxes, self.labels[rows], weights, steps, places

        def finish(encoded, scale, box, *rest) -> Batch:
            if batch_size:
                image = _part(encoded, scale, box, self._ways, self._preprocessing)
            else:
                image = resize(decode(encoded), self._preprocessing)
            return Batch(tf.ensure_shape(image, self._shape), *rest)

        return (
            elements.map(lambda element: _call(read, element, _READ))
            .unbatch()
            .map(finish, num_parallel_calls=_AUTOTUNE, deterministic=True)
        )

    def _parts(
        self, rows: np.ndarray, steps: np.ndarray, places: np.ndarray, batch_size: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns at which scale each picture is decoded, as an index, and what is cut out."""
        if not batch_size:
            return np.zeros(len(rows), np.int32), np.zeros((len(rows), 4), np.int32)
        height, width, _ = self._shape
        sizes = self._records.sizes[rows]
        if self._crop_area:
            step = int(steps[0])
            boxes = crops.boxes(
                sizes, places, self._seed, step, batch_size, self._crop_area, self._crop_ratio
            )
        else:
            boxes = crops.centred(sizes, height, width)
        room = np.minimum(boxes[:, 2] // height, boxes[:, 3] // width)
        scales = sum((room >= scale).astype(np.int32) for scale in _SCALES[1:])
        jpeg = self._records.jpeg[rows]
        boxes = np.where(jpeg[:, None], boxes // np.array(_SCALES, np.int32)[scales, None], boxes)
        return np.where(jpeg, scales, len(self._ways) - 1).astype(np.int32), boxes


def _plan(
    rows: np.ndarray, places: np.ndarray, step: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """Returns rows, weights, steps and places of the examples of one batch."""
    if weights is None:
        weights = np.ones(len(rows), np.float32)
    return rows, weights, np.full(len(rows), step, np.int64), places


def _call(
    function: Callable,
    element: tf.Tensor,
    specs: tuple[tuple[tf.DType, tuple[int, ...]], ...],
    count: int | None = None,
) -> tuple[tf.Tensor, ...]:
    """Calls a Python function of an element.

    Args:
        function: Returns arrays whose first axis is that of the examples.
        element: Its argument, a scalar.
        specs: Type of each result, and its shape without the first axis.
        count: Number of examples, where it is known.
    """
    results = tf.numpy_function(function, [element], [kind for kind, _ in specs], stateful=False)
    # What a Python function returns has no shape that the graph could know.
    return tuple(
        tf.ensure_shape(result, (count, *shape))
        for result, (_, shape) in zip(results, specs, strict=True)
    )


def _ways(records: Records, preprocessing: Preprocessing) -> tuple[int | None, ...]:
    """Returns the scales at which pictures of these sizes may be decoded, and then None where there
    are other formats than JPEG: each costs a branch, which the others have to pass."""
    target = preprocessing.height, preprocessing.width
    room = (records.sizes // target).min(axis=1)[records.jpeg].max(initial=1)
    scales = tuple(scale for scale in _SCALES if scale <= room or scale == 1)
    return scales if records.jpeg.all() else (*scales, None)


def _part(
    encoded: tf.Tensor,
    way: tf.Tensor,
    box: tf.Tensor,
    ways: tuple[int | None, ...],
    preprocessing: Preprocessing,
) -> tf.Tensor:
    """Decodes what lies in a box, and brings it to the size that the network expects.

    Of a JPEG nothing else is decoded, and a large part at a half, a quarter or an eighth of its
    size. What remains is less than a factor of two, which needs no antialiasing, save where it was
    an eighth.

    Args:
        encoded: The file.
        way: Index into `ways` of the scale to decode a JPEG at, or of None for other formats.
        box: Top, left, height and width, at that scale.
        ways: Those that pictures are decoded in.
        preprocessing: Gives the target's size and the interpolation.
    """

    def jpeg(ratio: int) -> Callable[[], tf.Tensor]:
        def part() -> tf.Tensor:
            pixels = tf.image.decode_and_crop_jpeg(encoded, box, CHANNELS, ratio=ratio)
            return scaled(pixels, preprocessing, antialias=ratio == _SCALES[-1])

        return part

    def other() -> tf.Tensor:
        top, left, height, width = tf.unstack(box)
        pixels = decode(encoded)[top : top + height, left : left + width]
        return scaled(pixels, preprocessing, antialias=True)

    branches = [other if scale is None else jpeg(scale) for scale in ways]
    # A choice of one would still be a choice, for which others wait.
    found = branches[0]() if len(branches) == 1 else tf.switch_case(way, branches)
    return to_bytes(found, preprocessing)
