"""How much of the score depends on each value, by a random forest and permutation.

After Breiman, *Random Forests* (2001), section 10: a forest learns the score from the values, and a
value is as important as the forest's error on trials that it has not seen grows when that value is
shuffled among them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.tuning.dimension import canonical
from pipeline.tuning.trial import Record, Trial

EPOCHS = "epochs"

# Fewer different sets of values say nothing of any.
LEAST_TRIALS = 10
_FOLDS, _REPEATS, _SHUFFLES, _TREES = 5, 4, 4, 40


@dataclass(frozen=True)
class Share:
    """How important one key is.

    Args:
        key: Of the space; or `"epochs"`, where trials had different ones.
        drop: By how much less of the variance of the score is explained without it.
        error: Standard deviation of that over different ways to divide the trials.
    """

    key: str
    drop: float
    error: float


@dataclass(frozen=True)
class Importance:
    """What the score depends on.

    Args:
        shares: The most important first.
        explained: Share of the variance of the score of unseen trials that the values explain (R²);
            at most 0 where they say nothing.
        trials: Different sets of values that it was learnt from.
    """

    shares: tuple[Share, ...]
    explained: float
    trials: int


def measure(record: Record) -> Importance | None:
    """Returns what the score depends on; None where too little is known, or nothing differs.

    Trials of the same values and as many epochs count as one, with their mean score. The same
    record always gives the same result.

    Args:
        record: The search.
    """
    rows = _rows(record.trials)
    scores = np.array([score for _, _, score in rows])
    keys = [key for key in _keys(record.trials) if len({_text(row, key) for row in rows}) > 1]
    if len(rows) < LEAST_TRIALS or not keys or not scores.var() > 0:
        return None
    table = np.column_stack([_column(rows, key) for key in keys])
    groups = np.unique([canonical_values for canonical_values, _, _ in rows], return_inverse=True)[
        1
    ]
    explained, drops = [], []
    for repeat in range(_REPEATS):
        random = np.random.default_rng(repeat)
        found, own = _divided(table, scores, groups, random)
        explained.append(found)
        drops.append(own)
    means, errors = np.mean(drops, axis=0), np.std(drops, axis=0, ddof=1)
    shares = [Share(*one) for one in zip(keys, means.tolist(), errors.tolist(), strict=True)]
    shares.sort(key=lambda share: -share.drop)
    return Importance(tuple(shares), float(np.mean(explained)), len(rows))


def _rows(trials: Sequence[Trial]) -> list[tuple[str, dict[str, Any], float]]:
    """Returns the values of each set as a text and as they are, and its mean score."""
    found: dict[tuple[str, int], tuple[dict[str, Any], list[float]]] = {}
    for trial in trials:
        if trial.score is not None:
            text = json.dumps({key: canonical(own) for key, own in sorted(trial.values.items())})
            values = {**trial.values, EPOCHS: trial.epochs}
            found.setdefault((text, trial.epochs), (values, []))[1].append(trial.score)
    return [(text, values, float(np.mean(scores))) for (text, _), (values, scores) in found.items()]


def _keys(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys([*(key for trial in trials for key in trial.values), EPOCHS]))


def _text(row: tuple[str, Mapping[str, Any], float], key: str) -> str:
    return canonical(row[1][key]) if key in row[1] else ""


def _column(rows: Sequence[tuple[str, Mapping[str, Any], float]], key: str) -> np.ndarray:
    """Returns a key as numbers; NaN where it is not set. What is no number gets that of its place."""
    values = [values.get(key) for _, values, _ in rows]
    given = [value for (_, own, _), value in zip(rows, values, strict=True) if key in own]
    if all(isinstance(value, int | float) for value in given):
        return np.array(
            [float(v) if key in row[1] else np.nan for row, v in zip(rows, values, strict=True)]
        )
    order = {text: place for place, text in enumerate(sorted({canonical(v) for v in given}))}
    return np.array([order[_text(row, key)] if key in row[1] else np.nan for row in rows], float)


def _divided(
    table: np.ndarray, scores: np.ndarray, groups: np.ndarray, random: np.random.Generator
) -> tuple[float, list[float]]:
    """Returns R² on unseen trials, and by how much it drops when each column is shuffled."""
    from sklearn.ensemble import RandomForestRegressor

    number = groups.max() + 1
    folds = (random.permutation(number) * min(_FOLDS, number) // number)[groups]
    wrong = 0.0
    shuffled = np.zeros(table.shape[1])
    for fold in np.unique(folds):
        unseen = folds == fold
        forest = RandomForestRegressor(_TREES, random_state=int(random.integers(2**31)))
        forest.fit(table[~unseen], scores[~unseen])
        asked = [table[unseen]]
        for column in range(table.shape[1]):
            for _ in range(_SHUFFLES):
                changed = table[unseen].copy()
                # From all trials: a fold may have one value alone.
                changed[:, column] = random.choice(table[:, column], len(changed))
                asked.append(changed)
        answers = forest.predict(np.concatenate(asked)).reshape(len(asked), -1)
        errors = ((answers - scores[unseen]) ** 2).sum(axis=1)
        wrong += errors[0]
        shuffled += errors[1:].reshape(-1, _SHUFFLES).mean(axis=1)
    whole = ((scores - scores.mean()) ** 2).sum()
    return float(1 - wrong / whole), ((shuffled - wrong) / whole).tolist()
