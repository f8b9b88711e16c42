"""One page about a run: its graph, its data, the training, the evaluation, and the model card."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline import files, telling
from pipeline.errors import PipelineError
from pipeline.evaluation import metrics
from pipeline.orchestration.artifact import Artifact
from pipeline.orchestration.fingerprint import DISTRIBUTIONS
from pipeline.orchestration.history import CACHED, COMPLETE, FAILED, NEW, Run, Step
from pipeline.orchestration.store import Store
from pipeline.orchestration.view import format_seconds
from pipeline.reporting import (
    charts,
    data_report,
    evaluated,
    evaluation,
    gather,
    model_card,
    page,
    pictures,
    reading,
    run_graph,
    sections,
    training_curves,
    tuning,
    tuning_charts,
    tuning_parallel,
)
from pipeline.reporting.gather import Data
from pipeline.reporting.pictures import Fetch, thumbnail
from pipeline.reporting.run_graph import Drawing
from pipeline.tuning.importance import LEAST_TRIALS
from pipeline.tuning.trial import RECORD

FOLDER = "reports"
REFUSED = "REFUSED"

# How much is shown of each kind before "and N more"; smaller than on the pages about one thing.
_LIMITS = {
    "rows": 20,
    "folded": 1000,
    "strips": 30,
    "anomalies": 50,
    "classes": 100,
    "pairs": 10,
    "matrix": 40,
    "checks": 30,
    "trials": 100,
}
_STRIP, _MISTAKES, _QUARANTINED = 6, 24, 6
_SCANNED_BYTES = 128 << 20

_WORDS = {
    COMPLETE: "complete",
    CACHED: "unchanged",
    FAILED: "failed",
    REFUSED: "refused",
    "CANCELED": "stopped",
    "RUNNING": "running",
    NEW: "not run",
}
_SIGNS = {COMPLETE: "✓", CACHED: "↺", FAILED: "✕", REFUSED: "⊘", "CANCELED": "■", "RUNNING": "…"}

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A component of the run, as the page shows it.

    Args:
        step: What it contributed.
        state: `REFUSED`, or the state of the step.
        word: The state for a person.
        sign: The same as a character.
        took: Its time, empty where it took none.
        share: Of the time of the component that took longest.
        reason: The last line of its error, or why it refused.
        waiting: Components that were not run because of it.
    """

    step: Step
    state: str
    word: str
    sign: str
    took: str
    share: float
    reason: str
    waiting: tuple[str, ...]


def path_of(root: Path, number: int) -> Path:
    """Returns where the page about the run `number` below the pipeline root is."""
    return root / FOLDER / f"{number}.html"


def write(
    store: Store, number: int, path: Path | None = None, *, fetch: Fetch | None = None
) -> Path:
    """Writes the page about a run, also about one that failed: one file that needs nothing else.

    What cannot be read any more is named on the page, with the reason.

    Args:
        store: Knows the run.
        number: Of the run.
        path: The file to write; by default `reports/<number>.html` below the root.
        fetch: Returns the bytes of the image of that name in the source, or None where there are
            none any more; by default the source that ExampleGen read is asked.

    Returns:
        The file that was written.

    Raises:
        UsageError: There is no such run.
    """
    path = path or path_of(store.root, number)
    files.write_text(path, render(store, store.run(number), fetch))
    return path


def render(store: Store, run: Run, fetch: Fetch | None = None) -> str:
    """Returns the page about `run`; see `write`."""
    failures: list[str] = []

    def known(what: str, read: Callable[[], T]) -> T | None:
        """Returns what can be read; of what cannot, the page tells why."""
        try:
            return read()
        except PipelineError as error:
            failures.append(f"{what} cannot be shown: {error}")
            return None

    data = known("The data", lambda: gather.of_run(store, run))
    search = known("The search for hyperparameters", lambda: _search(store, run))
    course = known("The training", lambda: _course(store, run))
    found = known("The evaluation", lambda: _evaluation(run))
    sample = known("The images", lambda: _sample(data)) if data else None
    look = pictures.Originals(fetch or (data_report.of_source(data) if data else lambda name: None))
    refused = data.quarantined if data else None
    environment = evaluation.environment()
    environment.globals.update(
        chart=charts,
        curve=training_curves,
        seconds=format_seconds,
        searched=tuning_charts,
        wide=tuning_parallel,
        least_trials=LEAST_TRIALS,
    )
    rows = _rows(run)
    state = _state(run, rows)
    card = model_card.Known(
        config=run.config,
        data=data,
        course=course,
        model=_properties(run, "Trainer", "model"),
        evaluated=found and found["found"],
        verdict=found and found["verdict"],
        pushed=_properties(run, "Pusher", "pushed_model"),
    )
    return environment.get_template("run_report.html.j2").render(
        run=run,
        state=state,
        word=_WORDS.get(state, state.lower()),
        headline=_headline(found, card),
        troubles=[row for row in rows if row.reason and row.state != COMPLETE],
        started=telling.when(run.started),
        rows=rows,
        by_name={row.step.component: row for row in rows},
        drawings=_drawings(run),
        limits=_LIMITS,
        data=data,
        splits=list(data.contents.splits) if data else [],
        sample=sample,
        heaps=None if refused is None else sections.heaps(refused, look, _QUARANTINED),
        conflicts=sections.conflicts(refused or (), look),
        overlaps=sections.overlaps((data and data.overlaps) or (), look),
        **_counts(data),
        search=search,
        course=course,
        curves=training_curves.charts(course) if course else [],
        shown_to_network=_png(course.sample) if course and course.sample else None,
        evaluation=found,
        infra=known("What InfraValidator found", lambda: _infra(run)),
        pushed=card.pushed,
        card=model_card.write(card),
        libraries=_libraries(store, run),
        config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        failures=[*failures, *([look.failure] if look.failure else [])],
    )


def _state(run: Run, rows: list[Row]) -> str:
    refused = any(row.state == REFUSED for row in rows)
    return REFUSED if refused and run.state == FAILED else run.state


def _rows(run: Run) -> list[Row]:
    longest = max((step.seconds for step in run.steps), default=0.0)
    return [_row(run, step, longest) for step in run.steps]


def _row(run: Run, step: Step, longest: float) -> Row:
    state = REFUSED if step.refusal else step.state
    lines = (step.refusal or step.error).strip().splitlines()
    return Row(
        step=step,
        state=state,
        word=_WORDS.get(state, state.lower()),
        sign=_SIGNS.get(state, ""),
        took=format_seconds(step.seconds) if step.seconds and not step.cached else "",
        share=0.0 if step.cached or not longest else step.seconds / longest,
        reason=lines[-1] if lines else "",
        waiting=_waiting(run, step) if lines else (),
    )


def _waiting(run: Run, step: Step) -> tuple[str, ...]:
    """Returns the components that would have been run behind `step`."""
    held = {step.component}
    for other in run.steps:  # each stands behind those it depends on
        if held & set(other.depends_on) and other.state == NEW:
            held.add(other.component)
    return tuple(
        other.component for other in run.steps if other.component in held - {step.component}
    )


def _headline(found: dict[str, Any] | None, card: model_card.Known) -> list[tuple[str, str, str]]:
    """Returns the figures that a person looks for first: value, name, and a note to it."""
    figures = []
    if found:
        own = found["found"].figures[metrics.ACCURACY]
        bounds = evaluation.interval(own.interval)
        figures.append((evaluation.figure(own.value), "test accuracy", bounds))
    if card.data:
        classes = page.number(len(card.data.contents.classes))
        count = page.number(card.data.contents.examples)
        figures.append((count, "images", f"of {classes} classes"))
    if card.model:
        network = card.model.get("architecture", "")
        figures.append((page.number(card.model["parameters"]), "parameters", network))
    if card.pushed:
        label = card.pushed.get("label", "")
        figures.append((str(card.pushed["pushed_version"]), "pushed version", label))
    return figures


def _drawings(run: Run) -> dict[str, Drawing]:
    """Returns the graph for a wide window and for a narrow one."""
    nodes = [run_graph.Node(step.component, step.depends_on) for step in run.steps]
    return {"wide": run_graph.draw(nodes), "narrow": run_graph.draw(nodes, upright=True)}


def _sample(data: Data) -> pictures.Sample:
    return pictures.sample(
        data.examples,
        data.contents,
        _LIMITS["strips"],
        _STRIP,
        most_bytes=_SCANNED_BYTES,
        least_images=0,
    )


def _counts(data: Data | None) -> dict[str, Any]:
    """Returns what the page tells of the data in numbers."""
    if data is None:
        return {"counts": None, "account": None, "skyline": None, "anomalies": None}
    counts = sections.rows(data.contents, data.fates)
    anomalies = data.anomalies
    return {
        "counts": counts,
        "account": sections.total(counts) if data.fates is not None else None,
        "skyline": charts.skyline(row.fate.written for row in counts),
        "anomalies": None if anomalies is None else sections.ranked_anomalies(anomalies),
    }


def _search(store: Store, run: Run) -> tuning.Summary | None:
    """Returns what Tuner searched, also where it was stopped, as far as it came."""
    step = run.step("Tuner")
    if step is None or step.execution_id is None:
        return None
    if (made := step.outputs.get("tuner_results")) is not None:
        return tuning.read(made.uri) if made.uri.is_dir() else None
    (execution,) = store.executions([step.execution_id]).values()
    left = store.state("Tuner", execution.key)
    return tuning.read(left) if (left / RECORD).is_file() else None


def _course(store: Store, run: Run) -> training_curves.Course | None:
    """Returns the course of the training, also of one that failed, as far as it came."""
    step = run.step("Trainer")
    if step is None or step.execution_id is None:
        return None
    if (made := step.outputs.get("model_run")) is not None:
        return training_curves.read(made.uri) if made.uri.is_dir() else None
    (execution,) = store.executions([step.execution_id]).values()
    left = store.state("Trainer", execution.key)
    return training_curves.read(left) if left.is_dir() else None


def _evaluation(run: Run) -> dict[str, Any] | None:
    """Returns what the parts of the page show of the evaluation."""
    made = _outputs(run, "Evaluator")
    if not {"evaluation", "blessing"} <= made.keys():
        return None
    found = evaluated.read(made["evaluation"].uri)
    worst = [
        evaluation.Mistake(
            own.name,
            own.text,
            own.predicted,
            own.score,
            own.own,
            thumbnail(own.image.read_bytes()),
        )
        for own in evaluated.worst(made["evaluation"].uri, _MISTAKES)
    ]
    judged = evaluated.verdict(made["blessing"].uri)
    return {**evaluation.drawn(found, judged), "worst": worst}


def _infra(run: Run) -> dict[str, Any] | None:
    """Returns what InfraValidator wrote down."""
    made = _outputs(run, "InfraValidator").get("blessing")
    if made is None:
        return None
    path = next(iter(sorted(made.uri.glob("INFRA_*BLESSED"))), made.uri / "INFRA_BLESSED")
    return reading.json_file(path)


def _properties(run: Run, component: str, output: str) -> dict[str, Any] | None:
    step = run.step(component)
    made = step.outputs.get(output) if step else None
    return made.properties if made else None


def _outputs(run: Run, component: str) -> dict[str, Artifact]:
    """Returns the artifacts of a component that are still there, by output key."""
    step = run.step(component)
    return {key: made for key, made in step.outputs.items() if made.uri.is_dir()} if step else {}


def _libraries(store: Store, run: Run) -> dict[str, str]:
    """Returns the versions of the libraries that the components of the run imported."""
    numbers = [step.execution_id for step in run.steps if step.execution_id is not None]
    found: dict[str, str] = {}
    for execution in store.executions(numbers).values():
        for name, version in execution.dependencies.get("libraries", {}).items():
            if version is not None:
                found[DISTRIBUTIONS.get(name, name)] = version
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _png(encoded: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(encoded).decode()}"
