"""Tiny data sets of TensorFlow Datasets, prepared from pictures made here."""

import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tests.pipeline import builders

CLASSES = ("zebra", "ant")
SIZES = {"train": 300, "validation": 4, "test": 5, "unlabelled": 2}

URL = "https://localhost:1/pets.bin"  # where nobody listens
REGISTERED = tfds.download.checksums.UrlInfo(size=4, checksum="0" * 64, filename="pets.bin")


class Pets(tfds.core.GeneratorBasedBuilder):
    """Pictures of two classes in four splits."""

    VERSION = tfds.core.Version("1.2.3")
    sizes: ClassVar[dict[str, int]] = SIZES
    url_infos: ClassVar[dict[str, object]] = {}

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(self._features()),
            supervised_keys=self._supervised(),
        )

    def _features(self):
        return {
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=CLASSES),
            "id": np.int64,
        }

    def _supervised(self):
        return ("picture", "kind")

    def _split_generators(self, dl_manager):
        del dl_manager
        first = 0
        generators = {}
        for name, size in self.sizes.items():
            generators[name] = self._generate_examples(first, size)
            first += size
        return generators

    def _generate_examples(self, first, size):
        for index in range(first, first + size):
            yield index, self._example(index)

    def _example(self, index):
        # The seventh of every ten is unlabelled.
        label = -1 if index % 10 == 7 else index % 2
        return {"picture": builders.noise(index, 4, 3), "kind": label, "id": index}


class OnePets(Pets):
    """All in one split, under a name of its own."""

    sizes: ClassVar[dict[str, int]] = {"full": 10}


class StrangePets(Pets):
    """Splits of which none is known."""

    sizes: ClassVar[dict[str, int]] = {"left": 10, "right": 10}


class TwoPictures(Pets):
    """Two pictures, and nothing says which is meant."""

    sizes: ClassVar[dict[str, int]] = {"train": 2, "test": 2}

    def _features(self):
        return {**super()._features(), "mirrored": tfds.features.Image(shape=(None, None, 3))}

    def _supervised(self):
        return None

    def _example(self, index):
        found = super()._example(index)
        return {**found, "mirrored": found["picture"][:, ::-1]}


class SecretPets(Pets):
    """The labels of a split are kept secret; those of another are, but for one."""

    sizes: ClassVar[dict[str, int]] = {"train": 20, "validation": 150, "test": 150}

    def _example(self, index):
        label = index % 2 if index <= 20 else -1
        return {**super()._example(index), "kind": label}


class BlindPets(Pets):
    """No label at all."""

    sizes: ClassVar[dict[str, int]] = {"train": 2, "test": 2}

    def _example(self, index):
        return {**super()._example(index), "kind": -1}


class FarPets(Pets):
    """Needs a file from the network."""

    sizes: ClassVar[dict[str, int]] = {"train": 4, "test": 4}
    url_infos: ClassVar[dict[str, object]] = {URL: REGISTERED}

    def _split_generators(self, dl_manager):
        first = Path(dl_manager.download(URL)).read_bytes()[0]
        return {
            name: self._generate_examples(first + 10 * number, size)
            for number, (name, size) in enumerate(self.sizes.items())
        }


class SlowPets(Pets):
    """Takes long enough to be killed."""

    sizes: ClassVar[dict[str, int]] = {"train": 40, "test": 4}

    def _generate_examples(self, first, size):
        for index in range(first, first + size):
            time.sleep(0.05)
            yield index, self._example(index)


class WildPets(Pets):
    """Fails while it is prepared."""

    def _example(self, index):
        raise RuntimeError("a line\nand another")
