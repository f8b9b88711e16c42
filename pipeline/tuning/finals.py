"""Which values win: the best of a search are trained again, and compared with the configuration.

The best score of many is good luck in part, and the luck does not come again. So the finalists are
trained anew with seeds that the search has not seen, and the configuration stays unless a finalist
beats it, on average, by more than one standard error of the difference.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.tuning.trial import Trial

# Standard errors from which on one training of the configuration is enough to see that it is worse.
_CLEARLY = 3.0
# Where no final ended in time: so many times the noise of the score have to be between the two.
_UNCONFIRMED = 2.0
# The noise of what is no accuracy, as a share of the score.
_SHARE = 0.05


@dataclass(frozen=True)
class Rules:
    """How values win.

    Args:
        objective: What is judged.
        direction: Whether the greatest or the smallest is the best.
        epochs: Epochs of a whole training.
        finalists: How many values are trained again.
        seeds: With so many seeds each.
        seed: That of the search's own trainings.
        examples: In the split that the objective is measured on.
    """

    objective: str
    direction: Literal["min", "max"]
    epochs: int
    finalists: int = 2
    seeds: int = 2
    seed: int = 0
    examples: int = 1

    def gap(self, score: float, other: float) -> float:
        """Returns by how much `score` is better than `other`; less than 0 where it is worse."""
        return score - other if self.direction == "max" else other - score

    @property
    def most(self) -> int:
        """How many final trainings there may be."""
        return (self.finalists + 1) * self.seeds if self.finalists else 0


@dataclass(frozen=True)
class Verdict:
    """Who wins.

    Args:
        best: The trial whose values they are; None where no trial has a score.
        reason: Why, for a person.
    """

    best: str | None
    reason: str


def default_of(trials: Sequence[Trial]) -> Trial | None:
    """Returns the trial of the configuration, if it has a score."""
    found = next((trial for trial in trials if trial.kind == "default"), None)
    return found if found is not None and found.state == "COMPLETED" else None


def finalists(trials: Sequence[Trial], rules: Rules) -> list[Trial]:
    """Returns the best trials of the search that are better than the configuration, best first.

    Of Hyperband, the longer trainings come first, and a short one is compared with what the
    configuration had reached by then.
    """
    default = default_of(trials)
    pool = [trial for trial in trials if trial.kind == "search" and trial.state == "COMPLETED"]
    gone_on = {trial.continues for trial in pool}
    found: list[Trial] = []
    for trial in sorted(pool, key=lambda one: (-one.epochs, -rules.gap(one.score, 0.0))):
        earlier = trial.id in gone_on or trial.values in [one.values for one in found]
        if not earlier and (default is None or _gap_to(default, trial, rules) > 0):
            found.append(trial)
    return found[: max(1, rules.finalists)]


def wanted(trials: Sequence[Trial], rules: Rules) -> list[Trial]:
    """Returns the final trainings that are still missing; the search has ended.

    The configuration is trained again only where that can make a difference.
    """
    if not rules.finalists or not (chosen := finalists(trials, rules)):
        return []
    known = {trial.id for trial in trials}
    missing = [one for trial in chosen for one in _runs(trial, rules) if one.id not in known]
    running = any(trial.kind == "final" and not trial.ended for trial in trials)
    default = default_of(trials)
    if missing or running or default is None:
        return missing
    leader = _leader(trials, chosen, rules)
    if leader is None or _clear(trials, leader, default, chosen, rules):
        return []
    return [one for one in _runs(default, rules) if one.id not in known]


def verdict(trials: Sequence[Trial], rules: Rules) -> Verdict:
    """Returns who wins by what is known; nothing more will be."""
    default, chosen = default_of(trials), finalists(trials, rules)
    if not chosen and default is None:
        return Verdict(None, "no trial has a score")
    if not chosen:
        return Verdict(default.id, "no trial was better than the configuration as it is")
    if not rules.finalists:
        return Verdict(
            chosen[0].id, f"the best {rules.objective} of the search, {_shown(chosen[0].score)}"
        )
    leader = _leader(trials, chosen, rules)
    if leader is None:
        return _unconfirmed(trials, chosen, default, rules)
    scores = _scores(trials, leader)
    mean = statistics.fmean(scores)
    told = (
        f"{rules.objective} {_shown(mean)} on average over {_seeds(scores)} that the search had "
        "not seen"
    )
    if default is None:
        return Verdict(leader.id, f"{told}; the configuration as it is has no score")
    others = [default.score, *_scores(trials, default)]
    gap = rules.gap(mean, statistics.fmean(others))
    spread = _spread([*(_scores(trials, trial) for trial in chosen), others])
    if spread is None:
        spread = _noise(default.score, rules)
    error = spread * math.sqrt(1 / len(scores) + 1 / len(others))
    compared = (
        f"{told}, and {_shown(statistics.fmean(others))} over {_seeds(others)} with the "
        "configuration as it is"
    )
    if gap > error and gap > 0:
        return Verdict(
            leader.id, f"{compared}; the standard error of the difference is {_shown(error)}"
        )
    return Verdict(
        default.id,
        f"the best of the search, {leader.id}, has {compared}, which stays, as it is not beaten by "
        f"more than one standard error of the difference, {_shown(error)}",
    )


def _unconfirmed(
    trials: Sequence[Trial], chosen: Sequence[Trial], default: Trial | None, rules: Rules
) -> Verdict:
    """Returns who wins where no finalist came to its end."""
    finals = [trial for trial in trials if trial.kind == "final"]
    if any(trial.state == "FAILED" for trial in finals) and default is not None:
        return Verdict(default.id, "the best of the search failed with other seeds")
    steady = [trial for trial in chosen if not _failed(trials, trial)]
    best = (steady or chosen)[0]
    told = f"{rules.objective} {_shown(best.score)} in the search; there was no time to confirm it"
    if default is None:
        return Verdict(best.id, told)
    margin = _UNCONFIRMED * _noise(default.score, rules)
    if _gap_to(default, best, rules) > margin:
        return Verdict(best.id, told)
    return Verdict(
        default.id,
        f"{best.id} has {told}, and it is not better than the configuration by more than "
        f"{_shown(margin)}, which may be chance",
    )


def _gap_to(default: Trial, trial: Trial, rules: Rules) -> float:
    """Returns by how much a trial is better than the configuration after as many epochs."""
    if trial.epochs < default.epochs and len(default.objective) >= trial.epochs:
        then = default.objective[trial.epochs - 1]
        return math.inf if then is None else rules.gap(trial.score, then)
    return rules.gap(trial.score, default.score)


def _runs(trial: Trial, rules: Rules) -> list[Trial]:
    """Returns the final trainings of the values of a trial."""
    return [
        Trial(
            id=f"{trial.id}-{number}",
            kind="final",
            values=trial.values,
            # Away from those that somebody would take to try the result.
            seed=rules.seed + 1000 * number,
            epochs=rules.epochs,
            repeats=trial.id,
        )
        for number in range(1, rules.seeds + 1)
    ]


def _scores(trials: Sequence[Trial], of: Trial) -> list[float]:
    """Returns the scores of the final trainings of the values of a trial."""
    return [one.score for one in trials if one.repeats == of.id and one.state == "COMPLETED"]


def _failed(trials: Sequence[Trial], of: Trial) -> bool:
    return any(one.repeats == of.id and one.state == "FAILED" for one in trials)


def _leader(trials: Sequence[Trial], chosen: Sequence[Trial], rules: Rules) -> Trial | None:
    """Returns the best finalist of those that never failed."""
    steady = [one for one in chosen if _scores(trials, one) and not _failed(trials, one)]
    if not steady:
        return None
    return max(steady, key=lambda one: rules.gap(statistics.fmean(_scores(trials, one)), 0.0))


def _clear(
    trials: Sequence[Trial], leader: Trial, default: Trial, chosen: Sequence[Trial], rules: Rules
) -> bool:
    """Whether one training of the configuration shows which of the two is the better."""
    scores = _scores(trials, leader)
    gap = rules.gap(statistics.fmean(scores), default.score)
    spread = _spread([_scores(trials, trial) for trial in chosen])
    return gap <= 0 or bool(spread and gap > _CLEARLY * spread * math.sqrt(1 / len(scores) + 1))


def _spread(groups: Sequence[Sequence[float]]) -> float | None:
    """Returns the standard deviation inside of the groups, or None where none has two scores."""
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in several)
    return math.sqrt(squares / sum(len(group) - 1 for group in several))


def _noise(score: float, rules: Rules) -> float:
    """Returns how far a score may be off because the split is no larger than it is."""
    if rules.objective.endswith("accuracy") and 0 <= score <= 1:
        # Of all right, too, one more might have been wrong.
        wrong = max(score * (1 - score), 1 / (rules.examples + 1))
        return math.sqrt(wrong / rules.examples)
    return _SHARE * abs(score)


def _seeds(scores: Sequence[float]) -> str:
    return f"{len(scores)} seed{'s' if len(scores) > 1 else ''}"


def _shown(score: float) -> str:
    return f"{score:.4g}"
