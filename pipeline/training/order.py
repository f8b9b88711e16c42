"""Which example comes when: a pure function of the seed and the place in the stream.

So the place in the data is the number of the step, whatever ran before and on how many replicas.
"""

import functools
from typing import Protocol

import numpy as np

# Separate the uses of one seed from each other.
_SHUFFLED, _CLASSES, _WITHIN = range(3)


class Order(Protocol):
    """An endless stream of examples."""

    def rows(self, first: int, count: int) -> np.ndarray:
        """Returns the examples at the places `first` to `first + count - 1`, int64."""


def generator(*key: int) -> np.random.Generator:
    """Returns a generator whose numbers depend on the integers `key` alone, each
    from 0 to 2⁶⁴ - 1."""
    # A seed sequence takes words of 32 bits, and does not see zeros at the end.
    words = [len(key), *(word for number in key for word in divmod(number, 1 << 32))]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


class Shuffled:
    """Every example once in each pass, each pass in an order of its own.

    Args:
        examples: How many there are.
        seed: Determines the order.
    """

    def __init__(self, examples: int, seed: int):
        self._examples = examples
        # A batch reaches into the next pass at most, save where the data are tiny.
        self._pass = functools.lru_cache(2)(
            lambda number: generator(seed, _SHUFFLED, number).permutation(examples)
        )

    def rows(self, first: int, count: int) -> np.ndarray:
        """Returns the examples at the places `first` to `first + count - 1`, int64."""
        return _from_passes(self._pass, self._examples, first, count)


class Balanced:
    """Every class equally often, its examples in turn.

    A pass has the length of the data, rounded up to a multiple of the number of classes. Examples
    of small classes come more than once in it, but never again before all others of their class.

    Args:
        labels: The class of each example; each class from 0 to the greatest has examples.
        seed: Determines the order.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
        self._members = members
        self._quota = -(-len(labels) // len(members))
        self._pass = functools.lru_cache(2)(self._classes)
        self._seed = seed
        self._turn = functools.lru_cache(4 * len(members))(
            lambda label, number: generator(seed, _WITHIN, label, number).permutation(
                members[label]
            )
        )

    def rows(self, first: int, count: int) -> np.ndarray:
        """Returns the examples at the places `first` to `first + count - 1`, int64."""
        length = self._quota * len(self._members)
        found = np.empty(count, np.int64)
        for place in range(count):
            number, within = divmod(first + place, length)
            labels, earlier = self._pass(number)
            label = int(labels[within])
            draw = number * self._quota + int(earlier[within])
            turn, nth = divmod(draw, len(self._members[label]))
            found[place] = self._turn(label, turn)[nth]
        return found

    def _classes(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the classes of a pass, and for each place how often its class came before."""
        labels = np.repeat(np.arange(len(self._members)), self._quota)
        labels = generator(self._seed, _CLASSES, number).permutation(labels)
        earlier = np.empty(len(labels), np.int64)
        by_class = np.argsort(labels, kind="stable")
        earlier[by_class] = np.tile(np.arange(self._quota), len(self._members))
        return labels, earlier


class Repeated:
    """Every example several times in its batch, for which it is changed anew each time.

    A pass over the data takes so many times as many batches. Copies of an example lie as far apart
    as they can, so that neighbours, which may be mixed, are different ones (Hoffer et al., 2020).

    Args:
        order: Which examples come, in which order.
        times: How often each of them is in its batch; the last ones of a batch may be in it less
            often, where it is no multiple of this.
        batch_size: Examples in a batch.
    """

    def __init__(self, order: Order, times: int, batch_size: int):
        self._order = order
        self._batch_size = batch_size
        self._different = -(-batch_size // times)

    def rows(self, first: int, count: int) -> np.ndarray:
        """Returns the examples at the places `first` to `first + count - 1`, int64."""
        batch, within = np.divmod(np.arange(first, first + count), self._batch_size)
        places = batch * self._different + within % self._different
        begin = int(places.min())
        return self._order.rows(begin, int(places.max()) - begin + 1)[places - begin]


def _from_passes(permutation, length: int, first: int, count: int) -> np.ndarray:
    """Cuts `count` entries out of the permutations of a length that follow each other."""
    parts = []
    while count:
        number, begin = divmod(first, length)
        taken = min(count, length - begin)
        parts.append(permutation(number)[begin : begin + taken])
        first, count = first + taken, count - taken
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
