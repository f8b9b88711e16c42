"""The pipeline from Python: one call runs a configuration and returns what came of it."""

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline import config as configuration
from pipeline import files, quiet
from pipeline.errors import UsageError
from pipeline.orchestration import graph, runner, selection
from pipeline.orchestration.runner import Result
from pipeline.orchestration.store import CANCELED, Store
from pipeline.orchestration.view import Silent, View, messages
from pipeline.sources import uris


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Args:
        config: The configuration that ran.
        components: The result of each component by its name.
        number: The number of the run below its root.
        seconds: Wall time; less than that of all components together where some ran at once.
    """

    config: configuration.RunConfig
    components: dict[str, Result]
    number: int = 0
    seconds: float = 0.0

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
    from_: str | None = None,
    to: str | None = None,
    only: str | None = None,
    view: View | None = None,
    command: str | None = None,
) -> RunResult:
    """Runs a configuration from images to a pushed model, using again what has not changed.

    Args:
        config: The name of an embedded configuration, the path of a YAML file, nested mappings as
            in such a file, or a configuration.
        overrides: `"section.key=value"` each, for a name or a path.
        from_: The component to begin with, such as `"Trainer"`: it and what depends on it run,
            changed or not; what they need of others has to be there from an earlier run.
        to: The component to end with, such as `"ExampleValidator"`; only what it needs is run.
        only: The one component to run, unless it is unchanged; what it needs has to be there.
        view: Shows the run; by default nothing is shown.
        command: The command line that makes the run again, which its report names; by default the
            one that says the same.

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
    if command is None:
        command = _command(config, overrides, {"--from": from_, "--to": to, "--only": only})
    config = _loaded(config, overrides)
    chosen = selection.select(graph.build(config), from_, to, only)
    view = view or Silent()
    told: list[tuple[int, float]] = []
    begin = time.perf_counter()

    def ended(executions: Store, number: int, state: str) -> None:
        told.append((number, time.perf_counter() - begin))
        if state != CANCELED:  # whoever stops a run does not want to wait for a drawing
            _report(executions, number, view)

    options = runner.Options(
        max_parallel=config.max_parallel,
        retries=config.retries,
        config=effective(config),
        command=command,
        engine=config.beam,
        ended=ended,
    )
    with messages(view):
        try:
            results = runner.execute(
                chosen, config.name, config.root / config.name, view, config.workers, options
            )
        except UsageError as error:
            raise configuration.located(error, config) from error
    return RunResult(config, results, *told[0])


def effective(config: configuration.RunConfig) -> dict[str, Any]:
    """Returns a configuration as JSON values, with everything that was left to defaults."""
    return TypeAdapter(configuration.RunConfig).dump_python(config, mode="json")


def _command(
    config: str | Path | Mapping[str, Any] | configuration.RunConfig,
    overrides: Sequence[str],
    options: Mapping[str, str | None],
) -> str:
    """Returns the command line of a run that was started from Python; nothing where there is none."""
    if not isinstance(config, str | Path):
        return ""
    given = [part for name, value in options.items() if value for part in (name, value)]
    sets = [part for override in overrides for part in ("--set", override)]
    return shlex.join(["python", "-m", "pipeline", "run", str(config), *sets, *given])


def _report(executions: Store, number: int, view: View) -> None:
    """Draws the report of a run that has just ended, and says where it lies, or why there is none."""
    try:
        from pipeline.reporting import run_report

        path = run_report.write(executions, number)
    except Exception as error:  # a run does not fail for want of a drawing
        logging.getLogger(__name__).debug("no report", exc_info=True)
        view.say(f"run {number} has no report: {type(error).__name__}: {error}")
    else:
        view.say(f"run {number} is drawn in {files.relative(path)}")


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
