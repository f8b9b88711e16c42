"""The configuration of a run: typed, validated, read from YAML with overrides."""

import graphlib
import re
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from pipeline import complaints, marks
from pipeline.card import Card
from pipeline.complaints import Complaint, Origin
from pipeline.components.bulk_inferrer import Parameters as BulkInferrerParameters
from pipeline.components.evaluator import Parameters as EvaluatorParameters
from pipeline.components.example_gen import Parameters as ExampleGenParameters
from pipeline.components.example_validator import Parameters as ExampleValidatorParameters
from pipeline.components.infra_validator import Parameters as InfraValidatorParameters
from pipeline.components.pusher import Parameters as PusherParameters
from pipeline.components.schema_gen import Parameters as SchemaGenParameters
from pipeline.components.statistics_gen import Parameters as StatisticsGenParameters
from pipeline.components.trainer import Parameters as TrainerParameters
from pipeline.engine import Engine
from pipeline.errors import UsageError, UsageErrors
from pipeline.orchestration import beside, custom
from pipeline.parameters import LocalPath, NonNegative, Positive, parameters
from pipeline.tuning import feasibility
from pipeline.tuning.parameters import Search

DEFAULT = "digits"

# What messages of components call a value, and its key.
_SAID = {"data": "example_gen.source", "destination": "pusher.destination"}
_ORIGIN = "_origin"

# The name becomes a directory and a model name of TF Serving.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


@parameters
class RunConfig:
    """Everything that determines a run.

    Args:
        name: Name of the pipeline and of the model that it pushes.
        root: Directory below which artifacts are kept; the run uses `<root>/<name>`.
        workers: The number of processes that read images; no result depends on it.
        beam: Where the Beam parts are computed: in this process, or on a cluster.
        max_parallel: How many components may run at once, where they do not wait for each other;
            None for two, or one on one core.
        retries: How often a component is tried again after a failure: one number for all, or
            component to number. What refuses, or is wrongly used, is not tried again.
        example_gen: Where the images come from and how they are split.
        statistics_gen: Parameters of StatisticsGen.
        schema_gen: Parameters of SchemaGen.
        example_validator: What the data have to satisfy before anything is trained on them.
        tuner: Which values of Trainer's parameters are searched for the best ones, and how long;
            without a space none are.
        trainer: Network, optimisation, precision and strategy.
        evaluator: What the model has to reach before it may be pushed.
        infra_validator: How the exported model is tried before it may be pushed.
        pusher: Where it is pushed to.
        bulk_inferrer: What the blessed model is asked about, if anything.
        components: Components of a person's own that join the graph.
        card: What a person says of the model in its model card.
    """

    name: Name
    root: LocalPath = Path("runs")
    workers: Positive = 1
    beam: Engine = Field(default_factory=Engine)
    max_parallel: Positive | None = None
    retries: NonNegative | dict[str, NonNegative] = 0
    example_gen: ExampleGenParameters
    statistics_gen: StatisticsGenParameters = Field(default_factory=StatisticsGenParameters)
    schema_gen: SchemaGenParameters = Field(default_factory=SchemaGenParameters)
    example_validator: ExampleValidatorParameters = Field(
        default_factory=ExampleValidatorParameters
    )
    tuner: Search = Field(default_factory=Search)
    trainer: TrainerParameters
    evaluator: EvaluatorParameters = Field(default_factory=EvaluatorParameters)
    infra_validator: InfraValidatorParameters = Field(default_factory=InfraValidatorParameters)
    pusher: PusherParameters = Field(default_factory=PusherParameters)
    bulk_inferrer: BulkInferrerParameters = Field(default_factory=BulkInferrerParameters)
    components: tuple[custom.Component, ...] = ()
    card: Card = Field(default_factory=Card)


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
    """Reads and validates a configuration as a whole.

    Modules that it names, such as those of a person's own components, are also sought in the
    folder of the file.

    Args:
        source: The name of an embedded configuration, or the path of a YAML file.
        overrides: `"section.key=value"` each; the value is read as YAML.
        values: `"section.key"` to a value that is taken as it is.

    Raises:
        UsageError: The source does not exist, or keys or values are wrong: everything that is,
            a line for each, with its line of the file or the override.
    """
    marked, folder = _read(source)
    given: dict[marks.Path, str] = {}
    for key, value in (values or {}).items():
        given[_set(marked, key, value, key)] = key
    wrong = []
    for override in overrides:
        said = f"--set {override}"
        try:
            key, value = _parse(override)
            given[_set(marked, key, value, said)] = said
        except UsageError as error:
            wrong.append(Complaint(0, said, str(error).removeprefix(f"{said}: ")))
    return _validate(Origin(str(source), marked.values, marked.lines, given), folder, wrong)


def validate(values: Mapping[str, Any], source: str) -> RunConfig:
    """Returns `values` as a configuration.

    Args:
        values: Nested mappings, as in the YAML files; modules that they name are also sought in
            the working directory.
        source: What error messages call them.

    Raises:
        UsageError: A key or value is wrong.
    """
    return _validate(Origin(source, dict(values)), Path.cwd())


def check(text: str, source: str) -> RunConfig:
    """Returns the configuration that a YAML text is.

    Args:
        text: The YAML.
        source: What error messages call it.

    Raises:
        UsageError: It is none.
    """
    marked = marks.read(text, source)
    return _validate(Origin(source, marked.values, marked.lines), None)


def located(error: UsageError, config: RunConfig) -> UsageError:
    """Returns the error with the line of the file, where it begins with what stands there.

    Args:
        error: What a component says of its parameters, such as "trainer.model 'x': ...".
        config: The configuration that they are of.
    """
    origin = getattr(config, _ORIGIN, None)
    if origin is None or not (origin.lines or origin.given):
        return error
    lines = []
    for line in getattr(error, "lines", (str(error),)):
        word = re.match(r"[\w.]*", line)[0]
        path = origin.followed(_SAID.get(word, word).split("."))
        where = origin.complain(path, "").where if path else ""
        # Options such as --data are named by what the message begins with.
        named = where and where != complaints.dotted(path)
        lines.append(f"{where}: {line}" if named else line)
    return UsageErrors(lines) if len(lines) > 1 else UsageError(*lines)


def name_of(data: str) -> str:
    """Returns a name for the model of other data, lest it becomes a version of the default's."""
    path = data.removeprefix("tfds:")
    if "://" not in data and path == data:
        path = str(Path(data).absolute())
    # A pattern such as `{SPAN}` or `*.tfrecord` names nothing.
    named = [part for part in path.split("/") if part and not set(part) & set("{}*?[]")]
    last = re.sub(r"\.(csv|tsv|jsonl|tfrecord)$", "", named[-1]) if named else ""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", last).lstrip("_.-") or "data"


def _validate(origin: Origin, folder: Path | None, wrong: Sequence[Complaint] = ()) -> RunConfig:
    wrong = list(wrong)
    if folder is not None:
        beside.seek_in(folder)
    try:
        found = TypeAdapter(RunConfig).validate_python(origin.values)
    except ValidationError as error:
        wrong += complaints.of(error, origin, RunConfig)
        wrong += custom.complaints(_components(origin.values), origin, folder)
    else:
        wrong += custom.complaints(found.components, origin, folder, _left_out(found))
        wrong += _unsliced(found, origin)
        wrong += _retried(found, origin)
        wrong += _unsearchable(found, origin)
        wrong += [] if wrong else _circular(found, origin)
    if len(wrong) == 1:
        raise UsageError(str(wrong[0]))
    if wrong:
        raise UsageErrors(str(one) for one in sorted(wrong))
    # No part of the configuration: only where it comes from.
    object.__setattr__(found, _ORIGIN, origin)
    return found


def _components(values: Mapping[str, Any]) -> tuple[custom.Component, ...]:
    """Returns the components where they are well formed, whatever the rest is."""
    try:
        return TypeAdapter(RunConfig.__annotations__["components"]).validate_python(
            values.get("components", ())
        )
    except ValidationError:
        return ()


def _circular(config: RunConfig, origin: Origin) -> list[Complaint]:
    """Returns what makes components wait for each other for ever."""
    from pipeline.orchestration import graph

    if not config.components:
        return []
    try:
        graph.build(config)
    except graphlib.CycleError as error:
        circle = error.args[1]
        number = next(n for n, one in enumerate(config.components) if one.name in circle)
        message = f"components wait for each other: {' -> '.join(circle)}; take out one input"
        return [origin.complain(("components", number), f"components.{number}: {message}")]
    return []


def _retried(config: RunConfig, origin: Origin) -> list[Complaint]:
    """Returns which components are to be tried again and are none."""
    if not isinstance(config.retries, Mapping):
        return []
    known = [*custom.BUILT_IN, *(component.name for component in config.components)]
    return [
        origin.complain(
            ("retries", name),
            f"retries.{name}: there is no such component; {complaints.suggestion(name, known)}",
        )
        for name in config.retries
        if name not in known
    ]


def _left_out(config: RunConfig) -> dict[str, str]:
    """Returns the components that the graph does not have, each with the key that puts it in."""
    optional = {
        "Tuner": ("tuner.space", config.tuner.space),
        "BulkInferrer": ("bulk_inferrer.data", config.bulk_inferrer.data),
    }
    return {name: key for name, (key, value) in optional.items() if not value}


def _unsearchable(config: RunConfig, origin: Origin) -> list[Complaint]:
    """Returns which values the search for hyperparameters could not give to Trainer."""
    return [
        origin.complain(
            origin.followed(("tuner", "space", *one.path)), feasibility.said(one, config.tuner)
        )
        for one in feasibility.complaints(config.tuner, config.trainer)
    ]


def _unsliced(config: RunConfig, origin: Origin) -> list[Complaint]:
    """Returns what is asked of slices that nobody looks at."""
    return [
        origin.complain(
            ("evaluator", "thresholds", "slices", name),
            f"evaluator.thresholds.slices: {name!r} is none of evaluator.slices; "
            f"{complaints.suggestion(name, config.evaluator.slices)}",
        )
        for name in config.evaluator.thresholds.slices
        if name not in config.evaluator.slices
    ]


def _read(source: str | Path) -> tuple[marks.Marked, Path | None]:
    """Returns what the source says, and the folder of its file."""
    path = Path(source)
    if str(source) in embedded():
        text = (resources.files("pipeline") / "configs" / f"{source}.yaml").read_text()
        return marks.read(text, str(source)), None
    marked = marks.read(_text(path), str(source))
    if not isinstance(marked.values, dict):
        kind = "nothing" if marked.values is None else f"a {type(marked.values).__name__}"
        raise UsageError(f"{source}:1: expected a mapping of sections, found {kind}")
    for name, value in marked.values.items():
        # A section of which every line is a comment.
        if value is None and complaints.is_section(RunConfig, name):
            marked.values[name] = {}
    return marked, path.absolute().parent


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise UsageError(
                f"configuration {str(path)!r}: neither a YAML file nor one of the embedded "
                f"configurations ({', '.join(embedded())})"
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: not YAML: not text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"configuration {str(path)!r}: {error.strerror}") from None


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError("expected KEY=VALUE such as trainer.epochs=5")
    try:
        return key, marks.read(text, "").values
    except UsageError:
        raise UsageError(f"the value {text!r} is not YAML") from None


def _set(marked: marks.Marked, key: str, value: Any, said: str) -> marks.Path:
    """Sets what `key` says, in mappings and lists, and returns its path."""
    values: Any = marked.values
    path: list[str | int] = []
    parts = _joined(values, key.split("."))
    while len(parts) > 1:
        section = parts.pop(0)
        part = _part(values, section, said)
        if isinstance(values, MutableMapping) and values.get(part) is None:
            values[part] = {}
        values = values[part]
        path.append(part)
        if not isinstance(values, MutableMapping | MutableSequence):
            raise UsageError(f"{said}: {section!r} is a value and has no keys below it")
        parts = _joined(values, parts)
    (last,) = parts
    part = _part(values, last, said)
    values[part] = value
    path.append(part)
    # What the file says there holds no longer.
    for below in [one for one in marked.lines if one[: len(path)] == tuple(path)]:
        del marked.lines[below]
    return tuple(path)


def _joined(values: Any, parts: list[str]) -> list[str]:
    """Returns the parts of a key, the first of them together where `values` has a key with dots."""
    for end in range(len(parts), 1, -1):
        name = ".".join(parts[:end])
        if isinstance(values, Mapping) and name in values:
            return [name, *parts[end:]]
    return parts


def _part(values: Any, text: str, said: str) -> str | int:
    """Returns a part of a key, which is an index where there is a list."""
    if not isinstance(values, MutableSequence):
        return text
    if not text.isdecimal() or int(text) >= len(values):
        raise UsageError(f"{said}: {text!r} is no index of a list of {len(values)}, counted from 0")
    return int(text)
