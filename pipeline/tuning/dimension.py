"""One dimension of a search space: the values that a field may have, and when it has them."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.parameters import NonEmpty, parameters

# Where a range is tried inside, so that a whole number is told from any number.
_INSIDE = 0.382
# A grid of more values is no grid.
_LARGEST = 1000
_SLACK = 1e-9
# Digits of a value of a grid of factors, which no decimal is exactly.
_DIGITS = 12
# Numbers to whoever writes them, and text to YAML 1.1, which wants a point in them.
_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")


def _read(value: Any) -> Any:
    """Returns numbers for the texts in `value` that look like 1e-3."""
    if isinstance(value, list | tuple):
        return [_read(one) for one in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


@parameters
class Dimension:
    """The values that one field of Trainer may have.

    Args:
        type: `"choice"`: one of `values`; `"int"`: a whole number from `min` to `max`; `"float"`:
            any number between them; `"log"`: the same, but each order of magnitude as often as
            the others.
        values: Of a choice: whatever the field may have, lists and null too.
        min: The least value of a range.
        max: The greatest one.
        step: From one value to the next, beginning at `min`: the difference, or with logarithmic
            sampling the factor. None for any value in between.
        sampling: How an int or a float is drawn: `"linear"`; `"log"`: small values as often as
            large ones; `"reverse_log"`: finer near `max`, as for a momentum.
        when: The field has such a value only where other fields of the space have certain ones:
            key to a value, or to a list of values of which any will do.
    """

    type: Literal["choice", "int", "float", "log"]
    values: Annotated[tuple[Any, ...], BeforeValidator(_read)] | None = None
    min: int | float | None = None
    max: int | float | None = None
    step: int | float | None = None
    sampling: Literal["linear", "log", "reverse_log"] | None = None
    when: dict[NonEmpty, Annotated[Any, BeforeValidator(_read)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "Dimension":
        if self.type == "choice":
            self._check_choice()
        else:
            self._check_range()
        return self

    def _check_choice(self) -> None:
        for name in ("min", "max", "step", "sampling"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is of a range, and this is a choice; give it values")
        if not self.values:
            raise ValueError("values must hold what is chosen from, such as [sgd, adamw]")
        texts = [canonical(value) for value in self.values]
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise ValueError(f"values must differ from each other; {twice[0]} stands twice")

    def _check_range(self) -> None:
        if self.values is not None:
            raise ValueError(f"values are of a choice, and the type is {self.type}")
        for name in ("min", "max"):
            if getattr(self, name) is None:
                raise ValueError(f"the type {self.type} needs min and max; {name} is missing")
        if self.type == "log" and self.sampling not in (None, "log"):
            raise ValueError(f"sampling must be 'log' with the type log, not {self.sampling!r}")
        if self.min >= self.max:
            raise ValueError(f"max must be greater than min {self.min:g}, not {self.max:g}")
        if self._logarithmic and self.min <= 0:
            raise ValueError(f"min must be greater than 0 on a logarithmic scale, not {self.min:g}")
        if self.type == "int":
            for name in ("min", "max"):
                if getattr(self, name) != int(getattr(self, name)):
                    raise ValueError(f"{name} must be a whole number, not {getattr(self, name):g}")
        if self.step is not None:
            self._check_step()

    def _check_step(self) -> None:
        if self.sampling == "reverse_log":
            raise ValueError("step must be left out with sampling reverse_log")
        least = 1 if self._logarithmic else 0
        if self.step <= least:
            raise ValueError(f"step must be greater than {least}, not {self.step:g}")
        if self.type == "int" and self.step != int(self.step):
            raise ValueError(f"step must be a whole number, not {self.step:g}")
        if self._steps() < 1:
            raise ValueError(f"step {self.step:g} leads from min beyond max; make it smaller")
        if self._steps() >= _LARGEST:
            raise ValueError(f"step {self.step:g} is so small that it is none; leave it out")

    @property
    def _logarithmic(self) -> bool:
        return self.type == "log" or self.sampling in ("log", "reverse_log")

    @property
    def scale(self) -> str:
        """How numbers are drawn: `"linear"`, `"log"` or `"reverse_log"`."""
        return "log" if self.type == "log" else self.sampling or "linear"

    def grid(self) -> tuple[Any, ...] | None:
        """Returns all values; None where there are as many as numbers between two others."""
        if self.type == "choice":
            return _alike(self.values)
        if self.step is None:
            return None
        found = [self._at(number) for number in range(self._steps() + 1)]
        return tuple(dict.fromkeys(found))

    def _steps(self) -> int:
        """Returns how many steps lead from `min` to `max`, or as far as they go."""
        if self._logarithmic:
            return math.floor(math.log(self.max / self.min) / math.log(self.step) + _SLACK)
        return math.floor((self.max - self.min) / self.step + _SLACK)

    def _at(self, number: int) -> int | float:
        if self._logarithmic:
            value = float(f"{self.min * self.step**number:.{_DIGITS}g}")
        else:
            # In decimals: 3 times 0.1 is 0.3.
            value = Decimal(str(self.min)) + number * Decimal(str(self.step))
        return int(value) if self.type == "int" else float(value)

    def tried(self) -> Iterator[tuple[str, Any]]:
        """Yields values that show whether the field takes all, and the keys that they are from."""
        grid = self.grid()
        if self.type == "choice":
            yield from (("values", value) for value in grid)
            return
        yield "min", self._number(self.min)
        yield "max", self._number(self.max)
        if grid is None:
            yield "type", self._number(self.min + _INSIDE * (self.max - self.min))
        else:
            yield from (("step", value) for value in grid)

    def _number(self, value: float) -> int | float:
        return int(value) if self.type == "int" else float(value)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of these."""
        if (grid := self.grid()) is not None:
            return any(canonical(value) == canonical(one) for one in grid)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.min <= value <= self.max and (self.type != "int" or value == int(value))

    def encoded(self, value: Any) -> Any:
        """Returns one of these values as Keras Tuner has it, which knows no null and no lists."""
        if (grid := self.grid()) is None:
            return value
        own = next(one for one in grid if canonical(one) == canonical(value))
        return own if _plain(grid) else as_json(own)

    def decoded(self, value: Any) -> Any:
        """Returns the value of the field that Keras Tuner has as `value`.

        Raises:
            ValueError: It is none of these.
        """
        grid = self.grid()
        if grid is None:
            return self._number(value)
        for one in grid:
            if self.encoded(one) == value:
                return one
        raise ValueError(f"{value!r} is none of {', '.join(map(as_json, grid))}")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


# A mapping, or a list of them where the field has other values under other conditions.
Alternatives = Annotated[tuple[Dimension, ...], BeforeValidator(_listed), Field(min_length=1)]


def as_json(value: Any) -> str:
    """Returns a value of a field as text that a person reads and JSON gives back."""
    return json.dumps(value, default=str)


def canonical(value: Any) -> str:
    """Returns a text that two values have in common when they mean the same, as 0 and 0.0 do."""

    def plain(one: Any) -> Any:
        if isinstance(one, list | tuple):
            return [plain(inner) for inner in one]
        return float(one) if type(one) is int else one

    return as_json(plain(value))


def _plain(values: Sequence[Any]) -> bool:
    """Whether Keras Tuner takes the values as they are: all of one type that it knows."""
    return len({type(value) for value in values}) == 1 and type(values[0]) in (str, int, float)


def _alike(values: Sequence[Any]) -> tuple[Any, ...]:
    """Returns the values, and all as floats where they are numbers and one is a float."""
    numbers = all(type(value) in (int, float) for value in values)
    if numbers and any(type(value) is float for value in values):
        return tuple(map(float, values))
    return tuple(values)
