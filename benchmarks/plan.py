"""What a benchmark is: a question, and cases in which two or more sides do the same work in turns.

A benchmark is two files. `benchmarks/NAME.py` says what is compared, and imports nothing heavy,
because the process that counts the time reads it:

```python
BENCHMARK = Benchmark(
    name="squares",
    question="How many squares a second does NumPy take, beside a loop?",
    cases=cases,
)

def cases(quick: bool) -> list[Case]:
    size = 100 if quick else 1_000_000
    target = "benchmarks.sides.squares:"
    return [
        Case(
            name=f"{size} numbers",
            unit="squares",
            sides=(
                Side("numpy", target + "Ours", {"size": size}),
                Side("loop", target + "Loop", {"size": size}, aim=Aim(ratio=10)),
            ),
            seconds=20,
        )
    ]
```

`benchmarks/sides/NAME.py` holds the classes that do the work. Each lives in a process of its own,
is made once and asked turn by turn:

```python
import numpy as np

class Ours:
    def __init__(self, size):  # setting up and warming up is not measured
        self._numbers = np.arange(size, dtype=float)

    def run(self):  # one turn; returns how many units of work were done
        np.square(self._numbers)
        return len(self._numbers)
```

A side may also have `close()`, called at the end, and `gpu_memory()`, the peak in bytes. `run`
returns a `Turn` instead of a number where it knows more, such as percentiles, or must leave out
time. What costs more than a second or so should be in one turn: one that takes microseconds says
nothing. Data that all sides read are made before by `Case.prepare`. A benchmark is known by its
line in `benchmarks.table.NAMES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# More would make the whole run long, fewer no spread.
_ROUNDS = 5


@dataclass(frozen=True)
class Aim:
    """What our side is to reach: one of three.

    Args:
        ratio: Of our rate (units per second) to that of the side that has this aim, at least.
        extra_seconds: That a unit takes us more than the side that has this aim, at most.
        seconds: That a unit takes at most; the aim of our own side.
        by: Whether wall or CPU seconds are compared.
    """

    ratio: float | None = None
    extra_seconds: float | None = None
    seconds: float | None = None
    by: Literal["wall", "cpu"] = "wall"

    def __post_init__(self) -> None:
        given = [self.ratio, self.extra_seconds, self.seconds]
        if sum(value is not None for value in given) != 1:
            raise ValueError(
                f"An aim is one of `ratio`, `extra_seconds` and `seconds`. Received: {self}"
            )


@dataclass(frozen=True)
class Environment:
    """A virtual environment for a peer, made once and kept in the cache folder.

    Args:
        name: Of its folder.
        requirements: As `pip install` takes them.
        own: Whether it sees nothing of the running environment. Otherwise what is installed there
            is there, too, and only what is missing or of another version is added.
        pip: Further arguments of `pip install`.
    """

    name: str
    requirements: tuple[str, ...]
    own: bool = False
    pip: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """One way to do the work of a case.

    Args:
        name: For people, such as `keras.applications, fit`; unique within a case.
        target: The class, as `module:Name`.
        arguments: Keyword arguments of the class, as JSON can hold them.
        aim: What ours is to reach beside this side; None where there is none.
        environ: Environment variables, such as `KERAS_BACKEND`.
        needs: Modules that must be importable; without one of them the side is told unavailable.
        gpu: Whether it needs an NVIDIA GPU.
        environment: Where it is installed, unless all of `needs` are here already.
    """

    name: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    aim: Aim | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    gpu: bool = False
    environment: Environment | None = None


@dataclass(frozen=True)
class Prepare:
    """What makes the data of a case, in a process of its own, before its sides begin.

    Args:
        target: A function, as `module:name`. It gets `folder`, an empty folder as a `Path`, and
            the arguments; every side of the case gets the same `folder` as a keyword argument.
            Cases of a benchmark that are prepared alike share the folder, which goes at its end.
        arguments: Keyword arguments, as JSON can hold them.
        seconds: About how long it takes.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 5.0


@dataclass(frozen=True)
class Case:
    """The same work, done by our side, which is the first, and by others.

    Args:
        name: Unique within a benchmark.
        unit: What is counted, in the plural: `images`, `requests`.
        sides: Ours first.
        show: Whether people read a rate (`images/s`) or the time of one unit.
        rounds: Turns of every side, in alternating order; one more, the first, is not counted
            unless `warm_up` is false.
        warm_up: Whether there is an uncounted first turn.
        together: Whether sides are made and warmed up at the same time, on as many cores as there
            are. Not for what tunes itself by what it then measures, such as cuDNN.
        seconds: About how long the case takes on two cores.
        patience: Seconds after which a side that does not answer has failed.
        prepare: Makes data for all sides.
        note: What a reader has to know to read the figures.
    """

    name: str
    unit: str
    sides: tuple[Side, ...]
    show: Literal["rate", "time"] = "rate"
    rounds: int = _ROUNDS
    warm_up: bool = True
    together: bool = False
    seconds: float = 30.0
    patience: float = 900.0
    prepare: Prepare | None = None
    note: str = ""

    def __post_init__(self) -> None:
        names = [side.name for side in self.sides]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"The sides of {self.name!r} must have names of their own: {names}")


@dataclass(frozen=True)
class Benchmark:
    """Cases that answer a question together.

    Args:
        name: On the command line, and of its two modules.
        question: In one line.
        cases: Returns them; with `quick`, ones that take seconds and whose figures say little.
    """

    name: str
    question: str
    cases: Callable[[bool], Sequence[Case]]


@dataclass(frozen=True)
class Turn:
    """What `run` of a side may return where a number does not say enough.

    Args:
        items: How many units were done.
        wall: Seconds, where not all of the turn counts.
        cpu: CPU seconds, likewise.
        figures: Further figures by name with unit, such as `{"p99 ms": 12.5}`; their medians are
            shown.
    """

    items: float
    wall: float | None = None
    cpu: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
