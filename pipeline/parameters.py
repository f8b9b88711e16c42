"""How the parameters of components are declared: frozen, typed, and closed to unknown names."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as _dataclass

from pipeline.errors import UsageError
from pipeline.sources import uris

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonEmpty = Annotated[str, Field(min_length=1)]

T = TypeVar("T")


def _local(value: Any) -> Any:
    if isinstance(value, str | Path):
        try:
            return uris.require_local(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
    return value


LocalPath = Annotated[Path, BeforeValidator(_local)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def parameters(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass whose fields are validated and whose names are closed."""
    make: Callable[[type[T]], type[T]] = _dataclass(
        frozen=True,
        kw_only=True,
        config=ConfigDict(extra="forbid", strict=False, allow_inf_nan=False),
    )
    return make(cls)
