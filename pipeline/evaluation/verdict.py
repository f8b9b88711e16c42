"""Whether a model is blessed, and why not."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.evaluation import metrics, thresholds
from pipeline.evaluation.assessment import Assessment
from pipeline.evaluation.comparison import BETTER, POWER, Compared, Rule
from pipeline.evaluation.thresholds import Check, Thresholds

NO_THRESHOLDS = "no thresholds are configured (evaluator.thresholds), so there is no blessing"
WITHOUT = "--set evaluator.comparison=null lets the thresholds alone decide"


@dataclass(frozen=True)
class Verdict:
    """Whether a model may be pushed.

    Args:
        reasons: Why not; empty if it may.
        checks: Each threshold with what was found.
        compared: What the comparison found; None where none was made.
        against: The model in production, as a person knows it; empty where there is none.
        note: What a person should know of the comparison, also of one that was not made.
        rule: What was asked of the comparison, or None.
    """

    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    compared: Compared | None
    against: str
    note: str
    rule: Rule | None = None

    @property
    def blessed(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons


def decide(found: Assessment, asked: Thresholds, rule: Rule | None, against: str) -> Verdict:
    """Returns whether the model may be pushed.

    All thresholds have to be kept, and the rule has to be shown to hold against the model in
    production. On the first push there is none, and the thresholds alone decide.

    Args:
        found: What was found out.
        asked: The thresholds; without any there is no blessing.
        rule: What the candidate has to be, or None.
        against: The model in production, as a person knows it; empty where there is none.
    """
    checks = tuple(thresholds.check(asked, found.figures, found.per_class, found.slices))
    reasons = [str(check) for check in checks if not check.passed]
    if not thresholds.are_set(asked):
        reasons.append(NO_THRESHOLDS)
    failure = found.predictions.baseline_failure
    if rule is None:
        note = "not compared with any model: evaluator.comparison is null"
    elif failure:
        note = f"cannot be compared with {against}: {failure}; {WITHOUT}"
        reasons.append(note)
    elif found.compared is None:
        note = "no model is in production that differs from this one: thresholds alone decide"
    else:
        note = explain(found.compared, rule, against)
        if not found.compared.passed:
            reasons.append(note)
    return Verdict(tuple(reasons), checks, found.compared, against, note, rule)


def explain(compared: Compared, rule: Rule, against: str) -> str:
    """Returns in a sentence what a comparison found, and if it failed, what would help."""
    name = rule.metric.replace("_", " ")
    unit = " nats" if rule.metric == metrics.LOG_LOSS else ""
    wanted = "better" if rule.rule == BETTER else f"worse by less than {rule.margin:g}{unit}"
    figures = (
        f"{compared.candidate:.4f} against {compared.baseline:.4f} of {against}; gain "
        f"{compared.gain:+.4f}, from {compared.interval[0]:+.4f} to {compared.interval[1]:+.4f}, "
        f"p = {compared.p_value:.2g}"
    )
    if compared.passed:
        return f"{name} is shown to be {wanted}: {figures}"
    if (compared.interval[1] <= -rule.allowed and rule.rule != BETTER) or compared.interval[1] < 0:
        return f"{name} is worse: {figures}"
    return f"{name} is not shown to be {wanted}: {figures}; {_power(compared, rule)}"


def _power(compared: Compared, rule: Rule) -> str:
    """Returns how likely a good model passes here, and how many images it takes."""
    if compared.needed is None:
        return "nothing points to a gain, and more images would show none"
    whose = "one of this gain" if rule.rule == BETTER else "an equal model"
    if compared.power >= POWER:
        return f"{whose} passes on {compared.examples:,} images in {compared.power:.0%} of cases"
    return (
        f"the test set is too small: {whose} passes on {compared.examples:,} images in "
        f"{compared.power:.0%} of cases; {POWER:.0%} take about {compared.needed:,}"
    )


def as_json(verdict: Verdict, asked: Thresholds) -> dict[str, Any]:
    """Returns what the blessing's file says."""
    return {
        "blessed": verdict.blessed,
        "reasons": list(verdict.reasons),
        "thresholds": thresholds.as_json(asked),
        "checks": [_check_as_json(check) for check in verdict.checks],
        "comparison": comparison_as_json(verdict),
    }


def comparison_as_json(verdict: Verdict) -> dict[str, Any]:
    """Returns what was compared with what, how, and what came of it."""
    return {
        "baseline": verdict.against or None,
        "rule": asdict(verdict.rule) if verdict.rule else None,
        "note": verdict.note,
        "result": _compared_as_json(verdict.compared) if verdict.compared else None,
    }


def _compared_as_json(compared: Compared) -> dict[str, Any]:
    # JSON has no infinity; a bound that is not there is null.
    interval = [bound if math.isfinite(bound) else None for bound in compared.interval]
    return {**asdict(compared), "interval": interval}


def _check_as_json(check: Check) -> dict[str, Any]:
    interval: Sequence[float] | None = check.interval
    return {**asdict(check), "interval": list(interval) if interval is not None else None}
