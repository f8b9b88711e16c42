"""The pipeline from Python: one call runs a configuration and returns what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline import quiet
from pipeline.errors import UsageError
from pipeline.orchestration import graph, runner
from pipeline.orchestration.runner import Result
from pipeline.orchestration.view import Silent, View, messages
from pipeline.sources import uris


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Args:
        config: The configuration that ran.
        components: The result of each component by its name.
    """

    config: configuration.RunConfig
    components: dict[str, Result]

    @property
    def metrics(self) -> dict[str, Any]:
        """What the Evaluator measured on the test split, such as `accuracy`."""
        return self.components["Evaluator"].outputs["evaluation"].properties

    @property
    def pushed(self) -> Path | str:
        """The directory of the version that TF Serving sees, or its URI."""
        record = self.components["Pusher"].outputs["pushed_model"]
        destination = record.properties["pushed_destination"]
        return destination if uris.is_uri(destination) else Path(destination)


def run(
    config: str | Path | Mapping[str, Any] | configuration.RunConfig = configuration.DEFAULT,
    *,
    overrides: Sequence[str] = (),
    until: str | None = None,
    view: View | None = None,
) -> RunResult:
    """Runs a configuration from images to a pushed model, using again what has not changed.

    Args:
        config: The name of an embedded configuration, the path of a YAML file, nested mappings as
            in such a file, or a configuration.
        overrides: `"section.key=value"` each, for a name or a path.
        until: The component to end with, such as `"ExampleValidator"`; only what it needs is run.
        view: Shows the run; by default nothing is shown.

    Returns:
        What the components left.

    Raises:
        UsageError: The configuration is wrong, or what it names does not exist.
        PipelineError: A component failed, or refused what it was given.

    Example:

    ```python
    from pipeline import run

    result = run("digits")
    print(result.metrics["accuracy"], result.pushed)
    ```
    """
    config = _loaded(config, overrides)
    root = config.root / config.name
    nodes = graph.build(config)
    if until is not None:
        nodes = graph.until(nodes, until)
    view = view or Silent()
    with messages(view):
        results = runner.execute(nodes, config.name, root, view, config.workers)
    return RunResult(config, results)


def attend(
    config: str | Path | Mapping[str, Any] | configuration.RunConfig,
    *,
    overrides: Sequence[str] = (),
    view: View | None = None,
) -> None:
    """Does the part of a worker that is not the chief; `TF_CONFIG` says which one it is.

    Args:
        config: As in `run`, the same as the chief's.
        overrides: As in `run`.
        view: Shows the work; by default nothing is shown.

    Raises:
        UsageError: The configuration is wrong.
        PipelineError: The training failed.
    """
    config = _loaded(config, overrides)
    root = config.root / config.name
    runner.attend(graph.build(config), config.name, root, view or Silent(), config.workers)


def _loaded(
    config: str | Path | Mapping[str, Any] | configuration.RunConfig, overrides: Sequence[str]
) -> configuration.RunConfig:
    quiet.tensorflow()
    if overrides and not isinstance(config, str | Path):
        raise UsageError("overrides: expected with the name or the path of a configuration only")
    if isinstance(config, str | Path):
        return configuration.load(config, overrides)
    return configuration.validate(config, "config") if isinstance(config, Mapping) else config
