"""Checks of arguments: every error names the argument, what was received and what is allowed."""

import numbers
from collections.abc import Collection
from typing import Any


def check_choice(argument: str, value: Any, allowed: Collection[Any]) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if not any(value is choice or value == choice for choice in allowed):
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{argument}` must be one of {choices}. Received: {argument}={value!r}")


def check_integer(argument: str, value: Any, minimum: int = 1) -> None:
    """Raises ValueError unless `value` is an integer of at least `minimum`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        raise ValueError(
            f"`{argument}` must be an integer of at least {minimum}. Received: {argument}={value!r}"
        )


def check_rate(argument: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number in [0, 1)."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < 1:
        raise ValueError(
            f"`{argument}` must be a number in [0, 1): at 1 nothing would be left. "
            f"Received: {argument}={value!r}"
        )


def check_fraction(argument: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number in (0, 1]."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise ValueError(f"`{argument}` must be a number in (0, 1]. Received: {argument}={value!r}")


def check_flag(argument: str, value: Any) -> None:
    """Raises ValueError unless `value` is True or False."""
    check_choice(argument, value, (True, False))


def check_positive(argument: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number above 0."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or value <= 0:
        raise ValueError(f"`{argument}` must be a number above 0. Received: {argument}={value!r}")
