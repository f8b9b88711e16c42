"""The images: CIFAR-10 where its folder is given, else scikit-learn's scanned digits."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from studies.errors import UsageError

_CIFAR_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_CIFAR_SIDE = 32
_CIFAR_BATCH = 10_000
# A sprite shows its pictures in rows of so many.
_SPRITE_ROW = 50
_SPRITES = 5
_DIGITS_TEST = 360
_QUICK_TRAIN, _QUICK_SIDE = 1437, 8


@dataclass(frozen=True)
class Split:
    """Images and their classes.

    Args:
        images: uint8 `(images, height, width, 3)`.
        labels: int64 `(images,)`.
    """

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> "Split":
        """Returns the first images of a split; all, if there are fewer."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """A data set.

    Args:
        name: What the page calls it.
        train: What is trained on.
        test: What is tested on, and nothing else.
        mirrored: Whether a picture from the other side shows the same class: not so of digits.
        classes: Number of classes.
    """

    name: str
    train: Split
    test: Split
    mirrored: bool
    classes: int = 10
    checksum: int = field(init=False)

    def __post_init__(self) -> None:
        checksum = 0
        for split in (self.train, self.test):
            for array in (split.images, split.labels.astype("<i8")):
                checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
        object.__setattr__(self, "checksum", checksum)

    @property
    def side(self) -> int:
        """Height and width of the images."""
        return self.train.images.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.train.images.shape[1:]

    def smaller(self, train: int, test: int, side: int) -> "Data":
        """Returns the first images of each split, shrunk by the mean over squares of pixels.

        Args:
            train: Number of images to train on.
            test: Number of images to test on.
            side: Height and width; a divisor of what they are.
        """
        splits = [
            Split(_shrunk(split.images, side), split.labels)
            for split in (self.train.first(train), self.test.first(test))
        ]
        count = len(splits[0].labels)
        name = f"{self.name}, {count:,} images of {side}×{side}"
        return Data(name, *splits, self.mirrored, self.classes)


def load(folder: Path | None) -> Data:
    """Returns the data set of a folder, or the digits where none is given.

    Raises:
        UsageError: If the folder holds no CIFAR-10.
    """
    return digits() if folder is None else cifar10(folder)


def quick(data: Data) -> Data:
    """Returns what a quick form takes of a data set: so many images, and so small, as the digits."""
    if data.side == _QUICK_SIDE:
        return data
    return data.smaller(_QUICK_TRAIN, _DIGITS_TEST, _QUICK_SIDE)


def digits() -> Data:
    """Returns scikit-learn's 1,797 digits of 8×8: 1,437 to train on and 360 to test on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], found.target[order]
    train = Split(images[_DIGITS_TEST:], labels[_DIGITS_TEST:])
    return Data("digits", train, Split(images[:_DIGITS_TEST], labels[:_DIGITS_TEST]), False)


def cifar10(folder: Path) -> Data:
    """Returns CIFAR-10 from its binary batches, or from sprites of them.

    Args:
        folder: Holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, also in
            `cifar-10-batches-bin`; or `data_batch_1_0.webp` to `test_batch_4.webp`, each of 2,000
            pictures in rows of 50, and `labels.bin`.

    Raises:
        UsageError: If a file is missing or is not of the size that it has to have.
    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: there is no such folder")
    for place in (folder, folder / "cifar-10-batches-bin"):
        if (place / "test_batch.bin").is_file():
            splits = [_binary_batch(place / f"{name}.bin") for name in _CIFAR_BATCHES]
            break
    else:
        if not (folder / "labels.bin").is_file():
            raise UsageError(
                f"--data {folder}: neither test_batch.bin nor labels.bin is in it; expected the "
                "binary version of CIFAR-10 (cifar-10-batches-bin), or sprites of it"
            )
        splits = list(_sprites(folder))
    images = np.concatenate([split.images for split in splits[:-1]])
    labels = np.concatenate([split.labels for split in splits[:-1]])
    return Data("CIFAR-10", Split(images, labels), splits[-1], mirrored=True)


def _binary_batch(path: Path) -> Split:
    """Records of one byte of label and 3,072 of red, green and blue planes."""
    record = 1 + 3 * _CIFAR_SIDE**2
    content = _content(path, _CIFAR_BATCH * record).reshape(_CIFAR_BATCH, record)
    planes = content[:, 1:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
    return Split(planes.transpose(0, 2, 3, 1), content[:, 0].astype(np.int64))


def _sprites(folder: Path) -> Iterator[Split]:
    from PIL import Image

    batches = len(_CIFAR_BATCHES)
    labels = _content(folder / "labels.bin", batches * _CIFAR_BATCH).reshape(batches, -1)
    rows = _CIFAR_BATCH // _SPRITES // _SPRITE_ROW
    size = (_SPRITE_ROW * _CIFAR_SIDE, rows * _CIFAR_SIDE)
    for name, own in zip(_CIFAR_BATCHES, labels, strict=True):
        images = []
        for number in range(_SPRITES):
            path = folder / f"{name}_{number}.webp"
            if not path.is_file():
                raise UsageError(f"--data {folder}: {path.name} is missing")
            with Image.open(path) as sprite:
                if sprite.size != size:
                    raise UsageError(f"{path} must be {size} pixels large; found {sprite.size}")
                pixels = np.asarray(sprite.convert("RGB"))
            grid = pixels.reshape(rows, _CIFAR_SIDE, _SPRITE_ROW, _CIFAR_SIDE, 3)
            images.append(grid.swapaxes(1, 2).reshape(-1, _CIFAR_SIDE, _CIFAR_SIDE, 3))
        yield Split(np.concatenate(images), own.astype(np.int64))


def _content(path: Path, size: int) -> np.ndarray:
    if not path.is_file():
        raise UsageError(f"--data {path.parent}: {path.name} is missing")
    content = np.fromfile(path, np.uint8)
    if len(content) != size:
        raise UsageError(f"{path} must have {size:,} bytes; found {len(content):,}")
    return content


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    count, height, width, channels = images.shape
    if height % side or width % side:
        raise ValueError(f"`side` must divide {height} and {width}. Received: side={side}")
    squares = images.reshape(count, side, height // side, side, width // side, channels)
    return np.rint(squares.mean(axis=(2, 4))).astype(np.uint8)
