"""What a study has found: verdicts, tables and charts, before they are drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from studies.statistics import Decision
from studies.work import Run, Setting

TOO_SMALL = "The quick form cannot decide this: it trains small networks for a few epochs."


@dataclass(frozen=True)
class Verdict:
    """What the data say of one claim.

    Args:
        claim: In a sentence.
        paper: What the paper reports, with its numbers.
        seen: What was seen here, with its numbers and their spread.
        decision: Whether these support the claim.
        why: What the decision goes by, or why there is none.
    """

    claim: str
    paper: str
    seen: str
    decision: Decision
    why: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Args:
        title: Above it.
        header: Names of the columns; the first names the rows.
        rows: As many entries as the header has.
        note: Below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A curve over the seeds.

    Args:
        label: In the legend.
        x: Where the points are.
        seeds: For each seed a value at each point; None where there is none.
        dashed: Whether it is dashed.
        color: Its place in the palette; lines of the same colour belong together.
    """

    label: str
    x: Sequence[float]
    seeds: Sequence[Sequence[float]]
    dashed: bool = False
    color: int | None = None


@dataclass(frozen=True)
class Chart:
    """Curves in one frame.

    Args:
        name: Of its file.
        title: Above it.
        x_label: With the unit.
        y_label: With the unit.
        lines: The curves; each is the mean, with a band from the least to the greatest seed.
        logarithmic: Whether the y axis is.
        points: Whether the curves are points joined by lines.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    logarithmic: bool = False
    points: bool = False


@dataclass(frozen=True)
class Report:
    """What a study has found.

    Args:
        verdicts: On its claims.
        tables: The figures.
        charts: The curves.
    """

    verdicts: tuple[Verdict, ...]
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Study:
    """A chapter of the story.

    Args:
        name: On the command line.
        title: What it is about, in a line.
        text: What is done, for the page.
        reference: Paper and section.
        quick: Its plan that ends within minutes: what sizes, how long; the study's own type.
        full: Its plan that follows the paper.
        runs: Its work by plan and setting.
        report: What the results of the runs say, by plan, setting and results by name.
    """

    name: str
    title: str
    text: str
    reference: str
    quick: Any
    full: Any
    runs: Callable[[Any, Setting], list[Run]]
    report: Callable[[Any, Setting, dict[str, dict[str, Any]]], Report]

    def plan(self, setting: Setting) -> Any:
        """Returns the plan of the setting's form."""
        return self.quick if setting.quick else self.full


def unless_quick(setting: Setting, decision: Decision, why: str) -> dict[str, Any]:
    """Returns `decision` and `why` of a verdict on errors, which no quick form can decide."""
    if setting.quick:
        return {"decision": Decision.UNDECIDED, "why": TOO_SMALL}
    return {"decision": decision, "why": why}
