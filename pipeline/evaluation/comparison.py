"""Whether a candidate may follow the model in production: the rule, the test, and its power."""

import math
import zlib
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.evaluation import metrics, paired
from pipeline.evaluation.predictions import Predictions
from pipeline.parameters import parameters

BETTER, NOT_WORSE = "better", "not_worse"
POWER = 0.8

RESAMPLES = 2000


@parameters
class Rule:
    """What the candidate has to be shown to be, against the model in production.

    Args:
        rule: `"not_worse"`: worse by less than `margin`; `"better"`: better by anything.
        metric: What is compared: `"accuracy"`, `"top_5_accuracy"` or `"log_loss"`.
        margin: For `not_worse`; a share, or nats of the log loss.
        confidence: A model that is not what the rule asks for passes at most in the rest of cases.
    """

    rule: Literal["not_worse", "better"] = NOT_WORSE
    metric: Literal["accuracy", "top_5_accuracy", "log_loss"] = metrics.ACCURACY
    margin: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95

    @property
    def allowed(self) -> float:
        """By how much the candidate may be worse."""
        return 0.0 if self.rule == BETTER else self.margin


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Args:
        test: The name of the test.
        candidate: The metric of the candidate.
        baseline: The metric of the model in production.
        gain: By how much the candidate is better; negative where it is worse.
        interval: Of the gain, both bounds one-sided at the rule's confidence.
        p_value: That the candidate is not what the rule asks for.
        passed: Whether it is shown to be.
        examples: The images that both were asked about.
        units: Independent ones among them: groups, where there are groups.
        wins: Images that only the candidate has right; None for the log loss.
        losses: Images that only the model in production has right; None for the log loss.
        power: The chance of a candidate to pass on these images: of an equal one with `not_worse`,
            with `better` of one whose gain is the one found.
        needed: How many images give it a chance of 0.8; None where none do.
    """

    test: str
    candidate: float
    baseline: float
    gain: float
    interval: tuple[float, float]
    p_value: float
    passed: bool
    examples: int
    units: int
    wins: int | None
    losses: int | None
    power: float
    needed: int | None


def compare(found: Predictions, rule: Rule, members: np.ndarray, seed: int) -> Compared:
    """Tests whether the candidate is what the rule asks for.

    Args:
        found: Predictions with a baseline.
        rule: What it has to be.
        members: The unit of each example, from `intervals.units`.
        seed: Of what is drawn, with the log loss and with groups.
    """
    draw = np.random.default_rng([seed, zlib.crc32(b"comparison")])
    if rule.metric == metrics.LOG_LOSS:
        ours, theirs = map(metrics.log_losses, (found.candidate, found.baseline))
        return _of_means(-ours, -theirs, rule, members, draw, sign=-1)
    ours, theirs = (
        metrics.hits(answers, found.labels, rule.metric)
        for answers in (found.candidate, found.baseline)
    )
    return of_shares(ours, theirs, rule, members, draw)


def of_shares(
    ours: np.ndarray,
    theirs: np.ndarray,
    rule: Rule,
    members: np.ndarray,
    draw: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Compared:
    """Compares how often two models are right.

    Independent images: the exact test of McNemar for `better`, the score test of Tango for
    `not_worse`. Groups: the score test on counts divided by the design effect, and the bootstrap-t
    over groups; both have to pass.

    Args:
        ours: Where the candidate is right, bool (n,).
        theirs: Where the baseline is, bool (n,).
        rule: What is tested.
        members: The unit of each example.
        draw: Draws the resamples of groups.
        resamples: How many.
    """
    examples = len(ours)
    units = int(members.max()) + 1
    wins, losses = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    gains = ours.astype(np.float64) - theirs
    effect = paired.design_effect(gains, members)
    counts = (wins / effect, losses / effect, examples / effect)
    interval = paired.score_interval(*counts, rule.confidence)
    if units < examples:
        test = "score test with design effect, and bootstrap-t over groups"
        of_groups = paired.Studentized(gains, members, resamples, draw)
        p_value = max(paired.score_p(*counts, rule.allowed), of_groups.p_value(rule.allowed))
        low, high = of_groups.interval(rule.confidence)
        interval = (min(interval[0], low), max(interval[1], high))
    elif rule.rule == BETTER:
        test = "exact McNemar test"
        p_value = paired.mcnemar(wins, losses)
    else:
        test = "score test of paired shares (Tango)"
        p_value = paired.score_p(*counts, rule.allowed)
    gain = (wins - losses) / examples
    disagreement = (wins + losses) / examples
    return Compared(
        test=test,
        candidate=float(ours.mean()),
        baseline=float(theirs.mean()),
        gain=gain,
        interval=interval,
        p_value=p_value,
        passed=p_value <= 1 - rule.confidence,
        examples=examples,
        units=units,
        wins=wins,
        losses=losses,
        # A share that is less by the margin differs on that many images at the least.
        **_power(max(disagreement, rule.allowed), gain, examples, effect, rule, paired.CONTINUITY),
    )


def _of_means(
    ours: np.ndarray,
    theirs: np.ndarray,
    rule: Rule,
    members: np.ndarray,
    draw: np.random.Generator,
    sign: int,
) -> Compared:
    """Compares means of which more is better; the figures are reported times `sign`."""
    gains = ours - theirs
    found = paired.Studentized(gains, members, RESAMPLES, draw)
    p_value = found.p_value(rule.allowed)
    units = int(members.max()) + 1
    return Compared(
        test="bootstrap-t of paired differences",
        candidate=float(sign * ours.mean()),
        baseline=float(sign * theirs.mean()),
        gain=found.mean,
        interval=found.interval(rule.confidence),
        p_value=p_value,
        passed=p_value <= 1 - rule.confidence,
        examples=len(gains),
        units=units,
        wins=None,
        losses=None,
        **_power(found.variance, found.mean, len(gains), len(gains) / units, rule),
    )


def _power(
    variance: float, gain: float, examples: int, effect: float, rule: Rule, correction: float = 0.0
) -> dict[str, float | int | None]:
    gap = rule.margin if rule.rule == NOT_WORSE else gain
    if gap <= 0:
        return {"power": 0.0, "needed": None}
    how = {"confidence": rule.confidence, "correction": correction}
    number = paired.needed(variance, gap, chance=POWER, **how)
    return {
        "power": paired.power(variance, gap, examples / effect, **how),
        "needed": math.ceil(number * effect),
    }
