"""The graph of a run: which component reads what the other wrote."""

import graphlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

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
from pipeline.config import RunConfig
from pipeline.orchestration import custom


@dataclass(frozen=True)
class Node:
    """One component in the graph.

    Args:
        name: Name of the component, in TFX's spelling.
        module: Its module, with `OUTPUTS` and `run`, and perhaps `external`, `CACHEABLE`,
            `RESUMABLE` and `IMMATERIAL`.
        parameters: The parameters it runs with.
        inputs: Input key to the name of the node that writes it and that node's output key.
        after: Nodes that have to end well first, although nothing of theirs is read.
        history: Input key to the name of a node and that node's output key. What is read is what
            that node wrote for the previous span; where there is none, the input is left out.
    """

    name: str
    module: ModuleType
    parameters: Any
    inputs: dict[str, tuple[str, str]] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    history: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The names of the nodes that have to end well before this one begins."""
        sources = (source for source, _ in (*self.inputs.values(), *self.history.values()))
        return tuple(dict.fromkeys((*sources, *self.after)))

    @property
    def resumable(self) -> bool:
        """Whether an execution goes on where a killed one was, and workers may share it."""
        return getattr(self.module, "RESUMABLE", False)

    @property
    def cacheable(self) -> bool:
        """Whether an earlier execution of the same stands for a new one."""
        return getattr(self.module, "CACHEABLE", True)


def build(config: RunConfig) -> list[Node]:
    """Returns the nodes of the run that `config` describes, each behind those it depends on.

    Raises:
        graphlib.CycleError: Components wait for each other.
    """
    examples = ("ExampleGen", "examples")
    schema = ("SchemaGen", "schema")
    statistics = ("StatisticsGen", "statistics")
    model = ("Trainer", "model")
    tuning, tuned = _tuning(config, {"examples": examples, "statistics": statistics})
    nodes = (
        Node("ExampleGen", example_gen, config.example_gen),
        Node("StatisticsGen", statistics_gen, config.statistics_gen, {"examples": examples}),
        Node("SchemaGen", schema_gen, config.schema_gen, {"statistics": statistics}),
        Node(
            "ExampleValidator",
            example_validator,
            config.example_validator,
            {"statistics": statistics, "schema": schema},
            history={"previous_statistics": statistics},
        ),
        *tuning,
        Node(
            "Trainer",
            trainer,
            config.trainer,
            {"examples": examples, "statistics": statistics, **tuned},
            after=("ExampleValidator",),
        ),
        Node("Evaluator", evaluator, _evaluator(config), {"examples": examples, "model": model}),
        Node(
            "InfraValidator",
            infra_validator,
            config.infra_validator,
            {"examples": examples, "model": model},
            # What is held against a limit is timed with nothing beside it.
            after=() if config.infra_validator.max_p99_ms is None else ("Evaluator",),
        ),
        Node(
            "Pusher",
            pusher,
            config.pusher,
            {
                "model": model,
                "blessing": ("Evaluator", "blessing"),
                "evaluation": ("Evaluator", "evaluation"),
                "infra_blessing": ("InfraValidator", "blessing"),
            },
        ),
    )
    nodes = (*nodes, *_bulk(config), *custom.nodes(config))
    return order(tuple(custom.held_back(nodes, config)))


def _bulk(config: RunConfig) -> tuple[Node, ...]:
    """Returns BulkInferrer, where it is given anything."""
    if config.bulk_inferrer.data is None:
        return ()
    inputs = {
        "model": ("Trainer", "model"),
        "blessing": ("Evaluator", "blessing"),
        "infra_blessing": ("InfraValidator", "blessing"),
    }
    return (Node("BulkInferrer", bulk_inferrer, config.bulk_inferrer, inputs),)


def _tuning(
    config: RunConfig, inputs: dict[str, tuple[str, str]]
) -> tuple[list[Node], dict[str, tuple[str, str]]]:
    """Returns the node of Tuner, where there is something to search, and what Trainer reads of it."""
    if not config.tuner.space:
        return [], {}
    given = {field.name: getattr(config.tuner, field.name) for field in fields(config.tuner)}
    parameters = tuner.Parameters(**given, trainer=config.trainer)
    node = Node("Tuner", tuner, parameters, inputs, after=("ExampleValidator",))
    return [node], {"hyperparameters": ("Tuner", "best_hyperparameters")}


def _evaluator(config: RunConfig) -> evaluator.Parameters:
    """Returns the Evaluator's parameters, with what the Pusher would replace as the baseline."""
    if config.evaluator.baseline is not None:
        return config.evaluator
    base = config.pusher.destination
    pushed = base / config.name if isinstance(base, Path) else f"{base}/{config.name}"
    return replace(config.evaluator, baseline=pushed)


def order(nodes: tuple[Node, ...]) -> list[Node]:
    """Returns `nodes` such that each stands behind those it depends on."""
    by_name = {node.name: node for node in nodes}
    graph = {node.name: node.depends_on for node in nodes}
    return [by_name[name] for name in graphlib.TopologicalSorter(graph).static_order()]
