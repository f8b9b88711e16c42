"""The configuration of a run: typed, validated, read from YAML with overrides."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from pipeline.components.evaluator import Parameters as EvaluatorParameters
from pipeline.components.example_gen import Parameters as ExampleGenParameters
from pipeline.components.example_validator import Parameters as ExampleValidatorParameters
from pipeline.components.infra_validator import Parameters as InfraValidatorParameters
from pipeline.components.pusher import Parameters as PusherParameters
from pipeline.components.schema_gen import Parameters as SchemaGenParameters
from pipeline.components.statistics_gen import Parameters as StatisticsGenParameters
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.errors import UsageError
from pipeline.parameters import Positive, parameters

DEFAULT = "digits"

# Of the keys of a section, so many are named where any of them would do.
_SHOWN = 3

# The name becomes a directory and a model name of TF Serving.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


@parameters
class RunConfig:
    """Everything that determines a run.

    Args:
        name: Name of the pipeline and of the model that it pushes.
        root: Directory below which artifacts are kept; the run uses `<root>/<name>`.
        workers: The number of processes that read images; no result depends on it.
        example_gen: Where the images come from and how they are split.
        statistics_gen: Parameters of StatisticsGen.
        schema_gen: Parameters of SchemaGen.
        example_validator: What the data have to satisfy before anything is trained on them.
        trainer: Network, optimisation, precision and strategy.
        evaluator: What the model has to reach before it may be pushed.
        infra_validator: How the exported model is tried before it may be pushed.
        pusher: Where it is pushed to.
    """

    name: Name
    root: Path = Path("runs")
    workers: Positive = 1
    example_gen: ExampleGenParameters
    statistics_gen: StatisticsGenParameters = Field(default_factory=StatisticsGenParameters)
    schema_gen: SchemaGenParameters = Field(default_factory=SchemaGenParameters)
    example_validator: ExampleValidatorParameters = Field(
        default_factory=ExampleValidatorParameters
    )
    trainer: TrainerParameters
    evaluator: EvaluatorParameters = Field(default_factory=EvaluatorParameters)
    infra_validator: InfraValidatorParameters = Field(default_factory=InfraValidatorParameters)
    pusher: PusherParameters = Field(default_factory=PusherParameters)


def embedded() -> list[str]:
    """Returns the names of the configurations that are shipped with the package."""
    folder = resources.files("pipeline") / "configs"
    return sorted(
        Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load(
    source: str | Path = DEFAULT,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Reads and validates a configuration.

    Args:
        source: The name of an embedded configuration, or the path of a YAML file.
        overrides: `"section.key=value"` each; the value is read as YAML.
        values: `"section.key"` to a value that is taken as it is.

    Raises:
        UsageError: The source does not exist, or a key or value is wrong; one line says which.
    """
    configured = _read(source)
    for key, value in (values or {}).items():
        _set(configured, key, value, key)
    for override in overrides:
        key, value = _parse(override)
        _set(configured, key, value, f"--set {override}")
    return validate(configured, str(source))


def validate(values: Mapping[str, Any], source: str) -> RunConfig:
    """Returns `values` as a configuration.

    Args:
        values: Nested mappings, as in the YAML files.
        source: What error messages call them.

    Raises:
        UsageError: A key or value is wrong.
    """
    try:
        return TypeAdapter(RunConfig).validate_python(dict(values))
    except ValidationError as error:
        raise UsageError(f"{source}: {_explain(error.errors()[0])}") from None


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if str(source) in embedded():
        text = (resources.files("pipeline") / "configs" / f"{source}.yaml").read_text()
    elif path.is_file():
        text = _text(path)
    else:
        raise UsageError(
            f"configuration {str(source)!r}: neither a YAML file nor one of the embedded "
            f"configurations ({', '.join(embedded())})"
        )
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{source}: expected a mapping of sections, found {type(values).__name__}")
    return values


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key!r} twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not YAML: not text in UTF-8") from None


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"--set {override}: expected KEY=VALUE such as trainer.epochs=5")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {override}: the value {text!r} is not YAML") from None


def _set(values: dict[str, Any], key: str, value: Any, said: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"{said}: {section!r} is a value and has no keys below it")
    values[last] = value


def _explain(error: Mapping[str, Any]) -> str:
    """Returns one line for one error of pydantic: key, what was expected, what was found."""
    place = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "unexpected_keyword_argument":
            allowed = _allowed(error["loc"][:-1])
            close = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(allowed)}"
            )
            return f"unknown key {place!r}; {hint}"
        case "missing":
            allowed = _allowed(error["loc"])
            more = " …" if len(allowed) > _SHOWN else ""
            return f"{place}: missing; expected {' or '.join(allowed[:_SHOWN]) or 'a value'}{more}"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            return f"{place}: {message[0].lower()}{message[1:]}; found {error['input']!r}"


def _allowed(location: Sequence[str | int]) -> list[str]:
    """Returns the keys that a section of the configuration has."""
    section: Any = RunConfig
    for part in location:
        hints = typing.get_type_hints(section) if is_dataclass(section) else {}
        section = hints.get(str(part))
        if isinstance(section, types.UnionType):
            section = next((member for member in section.__args__ if is_dataclass(member)), None)
    return [field.name for field in fields(section)] if is_dataclass(section) else []
