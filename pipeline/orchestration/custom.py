"""Components of a person's own, which join the graph from the configuration.

A module of one offers what `pipeline.components` says of the modules here, except that its function
may have any name, that it need have no `Parameters`, and that it may declare what it reads:

    INPUTS          input key -> artifact type
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from pipeline import complaints as complaining
from pipeline.complaints import Complaint, Origin, suggestion
from pipeline.components import (
    bulk_inferrer,
    evaluator,
    example_gen,
    example_validator,
    infra_validator,
    pusher,
    schema_gen,
    statistics_gen,
    trainer,
    tuner,
)
from pipeline.errors import PipelineError, UsageError
from pipeline.orchestration import beside
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import NonEmpty, parameters

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.orchestration.graph import Node

BUILT_IN: dict[str, ModuleType] = {
    "ExampleGen": example_gen,
    "StatisticsGen": statistics_gen,
    "SchemaGen": schema_gen,
    "ExampleValidator": example_validator,
    "Tuner": tuner,
    "Trainer": trainer,
    "Evaluator": evaluator,
    "InfraValidator": infra_validator,
    "Pusher": pusher,
    "BulkInferrer": bulk_inferrer,
}

# What a module may offer beside its function, and the graph asks for.
_OFFERED = ("check", "CACHEABLE", "RESUMABLE", "IMMATERIAL")


def _matching(pattern: str, expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


@parameters
class Component:
    """One component of a person's own.

    Args:
        name: Its name in the graph, in the spelling of the others, such as `ColourReport`.
        function: `module:function`. The module is sought beside the configuration and among what
            is installed; it offers `OUTPUTS`, and perhaps `INPUTS` and `Parameters`. The function
            takes inputs, outputs, parameters and context, and returns an `Outcome` or a line.
        inputs: Input key to `Component.output`, such as `examples: ExampleGen.examples`.
        after: Components that have to end well first, although nothing of theirs is read.
        before: Components that wait for this one, and are not run when it fails or refuses.
        parameters: What the module's `Parameters` are made of.
    """

    name: Annotated[str, _matching(r"[A-Z][A-Za-z0-9]*", "a name such as ColourReport")]
    function: Annotated[str, _matching(r"\w+(\.\w+)*:\w+", "module:function")]
    inputs: dict[
        NonEmpty, Annotated[str, _matching(r"\w+\.\w+", "COMPONENT.OUTPUT such as Trainer.model")]
    ] = Field(default_factory=dict)
    after: tuple[NonEmpty, ...] = ()
    before: tuple[NonEmpty, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)


@parameters
class NoParameters:
    """What a component runs with whose module has no `Parameters`."""


def nodes(config: "RunConfig") -> list["Node"]:
    """Returns a node for each component that the configuration adds to the graph.

    Raises:
        UsageError: A module cannot be loaded, or does not offer what it has to.
    """
    from pipeline.orchestration.graph import Node

    found = []
    for component in config.components:
        module, function = _load(component)
        inputs = {key: tuple(source.split(".")) for key, source in component.inputs.items()}
        found.append(
            Node(
                component.name,
                _as_module(component, module, function),
                TypeAdapter(_kind(module)).validate_python(component.parameters),
                inputs,
                component.after,
            )
        )
    return found


def held_back(nodes: Sequence["Node"], config: "RunConfig") -> list["Node"]:
    """Returns `nodes`, where each waits for the components that stand before it."""
    awaited: dict[str, tuple[str, ...]] = {}
    for component in config.components:
        for name in component.before:
            awaited[name] = (*awaited.get(name, ()), component.name)
    return [replace(node, after=(*node.after, *awaited.get(node.name, ()))) for node in nodes]


def _as_module(component: Component, module: ModuleType, function: Callable) -> ModuleType:
    """Returns what the graph takes for the component's module: `run` is the function."""

    def run(
        inputs: dict[str, Artifact],
        outputs: dict[str, Artifact],
        parameters: Any,
        context: Context,
    ) -> Outcome:
        own = context.outside["own"] if context.outside else None
        try:
            outcome = function(inputs, outputs, parameters, replace(context, outside=own))
        except SystemExit as error:
            # It would end the whole run, and without a word.
            raise PipelineError(
                f"{component.function} ended Python with sys.exit({error.code!r}); expected it to "
                "return an Outcome, or to raise an error"
            ) from error
        if isinstance(outcome, str):
            return Outcome(outcome)
        if not isinstance(outcome, Outcome):
            raise PipelineError(
                f"{component.function} returned {type(outcome).__name__}; expected an Outcome, or "
                "a line of text"
            )
        return outcome

    def outside(own: Any) -> dict[str, Any]:
        # Of a module with two functions, one must not pass for the other.
        return {"function": component.function, "own": own}

    joined = ModuleType(module.__name__, module.__doc__)
    joined.OUTPUTS, joined.run = dict(module.OUTPUTS), run
    if hasattr(module, "look_outside"):
        joined.look_outside = lambda inputs, given, name: outside(
            module.look_outside(inputs, given, name)
        )
    else:
        own = getattr(module, "external", lambda given: None)
        joined.external = lambda given: outside(own(given))
    for name in _OFFERED:
        if hasattr(module, name):
            setattr(joined, name, getattr(module, name))
    return joined


def _kind(module: ModuleType) -> Any:
    return getattr(module, "Parameters", NoParameters)


def _load(component: Component) -> tuple[ModuleType, Callable]:
    """Returns the module of a component and its function.

    Raises:
        UsageError: There is none, or it does not offer what it has to.
    """
    name, _, function_name = component.function.partition(":")
    try:
        module = beside.load(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  it is a program of somebody's own
        if isinstance(error, ModuleNotFoundError) and name.startswith(f"{error.name}"):
            raise UsageError(
                f"there is no module {error.name!r} beside the configuration, nor is it installed"
            ) from None
        raise UsageError(
            f"the module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [n for n, found in vars(module).items() if inspect.isfunction(found)]
        raise UsageError(
            f"the module {name!r} has no function {function_name!r}; "
            f"{suggestion(function_name, known) if known else 'nor any other'}"
        )
    try:
        inspect.signature(function).bind({}, {}, None, None)
    except TypeError:
        raise UsageError(
            f"{component.function} takes {inspect.signature(function)}; expected (inputs, outputs, "
            "parameters, context)"
        ) from None
    for table, needed in (("OUTPUTS", True), ("INPUTS", False)):
        declared = getattr(module, table, None)
        if (needed or declared is not None) and not _is_table(declared):
            raise UsageError(
                f"the module {name!r} has no {table} that can be used; expected a dictionary of "
                f"keys to artifact types, such as {table} = {{'report': 'Report'}}"
            )
    return module, function


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and key.isidentifier() and isinstance(kind, str) and kind
        for key, kind in value.items()
    )


@dataclass(frozen=True)
class _Checked:
    """A component with its module, or without where that cannot be loaded."""

    component: Component
    path: tuple[str | int, ...]
    module: ModuleType | None


def complaints(
    components: Sequence[Component],
    origin: Origin,
    folder: Path | None = None,
    left_out: Mapping[str, str] | None = None,
) -> list[Complaint]:
    """Returns what is wrong with the components, of which each is well formed by itself.

    Args:
        components: Those of the configuration.
        origin: Where the configuration comes from.
        folder: That of its file.
        left_out: Components of the pipeline's own that this graph does not have, each with the key
            of the configuration that puts it in.
    """
    left_out = left_out or {}
    wrong: list[Complaint] = []
    checked = []
    for number, component in enumerate(components):
        path: tuple[str | int, ...] = ("components", number)
        module = None
        try:
            beside.require_not_hidden(component.function.partition(":")[0], folder)
            module, _ = _load(component)
        except UsageError as error:
            wrong.append(_complaint(origin, (*path, "function"), str(error)))
        else:
            wrong += _of_parameters(component, module, origin, (*path, "parameters"))
        checked.append(_Checked(component, path, module))
    outputs: dict[str, Mapping[str, str] | None] = {
        name: module.OUTPUTS for name, module in BUILT_IN.items() if name not in left_out
    }
    for one in checked:
        name = one.component.name
        if name in outputs or name in BUILT_IN:
            whose = "of the pipeline's own" if name in BUILT_IN else "above"
            wrong.append(
                _complaint(
                    origin, (*one.path, "name"), f"there is a component {name} {whose}; rename it"
                )
            )
        outputs[name] = one.module.OUTPUTS if one.module else None
    for one in checked:
        wrong += _of_edges(one, outputs, left_out, origin)
    return wrong


def _complaint(origin: Origin, path: tuple[str | int, ...], message: str) -> Complaint:
    return origin.complain(path, f"{complaining.dotted(path)}: {message}")


def _of_parameters(
    component: Component, module: ModuleType, origin: Origin, path: tuple[str | int, ...]
) -> list[Complaint]:
    kind, given = _kind(module), component.parameters
    if is_dataclass(kind) and not is_pydantic_dataclass(kind):
        # A plain dataclass would pass over what it does not know.
        known = [field.name for field in fields(kind)]
        if unknown := [key for key in given if key not in known]:
            return [
                origin.complain(
                    (*path, key),
                    f"unknown key {complaining.dotted((*path, key))!r}; {suggestion(key, known)}",
                )
                for key in unknown
            ]
    try:
        TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        return complaining.of(error, origin, kind, path)
    return []


def _of_edges(
    one: _Checked,
    outputs: Mapping[str, Mapping[str, str] | None],
    left_out: Mapping[str, str],
    origin: Origin,
) -> list[Complaint]:
    """Returns what is wrong with what a component reads and what it waits for."""
    wrong = []
    component, wanted = one.component, getattr(one.module, "INPUTS", None)
    for kind in ("after", "before"):
        for number, name in enumerate(getattr(component, kind)):
            if name not in outputs:
                message = _not_there(name, outputs, left_out)
                wrong.append(_complaint(origin, (*one.path, kind, number), message))
    for key, source in component.inputs.items():
        if message := _wrong_input(key, source, component, wanted, outputs, left_out):
            wrong.append(_complaint(origin, (*one.path, "inputs", key), message))
    for key in wanted or ():
        if key not in component.inputs:
            message = f"missing; {component.function} reads {key}, of type {wanted[key]}"
            wrong.append(_complaint(origin, (*one.path, "inputs", key), message))
    return wrong


def _not_there(name: str, outputs: Collection[str], left_out: Mapping[str, str]) -> str:
    if name in left_out:
        return f"{name} is not in this run; {left_out[name]} puts it in"
    return f"there is no component {name!r}; {suggestion(name, outputs)}"


def _wrong_input(
    key: str,
    source: str,
    component: Component,
    wanted: Mapping[str, str] | None,
    outputs: Mapping[str, Mapping[str, str] | None],
    left_out: Mapping[str, str],
) -> str | None:
    """Returns what is wrong with one input, or None."""
    name, _, output = source.partition(".")
    if wanted is not None and key not in wanted:
        expected = suggestion(key, wanted) if wanted else "it reads nothing"
        return f"{component.function} has no such input; {expected}"
    if name not in outputs:
        return _not_there(name, outputs, left_out)
    if (there := outputs[name]) is None:
        return None  # its module has a complaint of its own
    if output not in there:
        return f"{name} has no output {output!r}; {suggestion(output, there)}"
    if wanted is not None and there[output] != wanted[key]:
        return f"{source} is of type {there[output]}; {component.function} reads {wanted[key]}"
    return None
