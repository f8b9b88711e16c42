"""Searches for tests: what was tried and what came of it follows a formula."""

import math

import numpy as np

from pipeline.tuning.trial import Record, Trial

BEGIN = 1_700_000_000.0
SPACE = [
    {
        "class_name": "Float",
        "config": {"name": "learning_rate", "sampling": "log", "min_value": 1e-3, "max_value": 1.0},
    },
    {
        "class_name": "Choice",
        "config": {"name": "model_arguments.depths", "values": ["[1, 1, 1]", "[2, 2, 2]"]},
    },
    {"class_name": "Int", "config": {"name": "random_shift", "min_value": 0, "max_value": 3}},
]


def accuracy(values: dict) -> float:
    """Highest at a learning rate of 0.1, a little higher with depth, and whatever the shift."""
    deep = len(values["model_arguments.depths"]) == 3 and values["model_arguments.depths"][0] == 2
    return 0.9 - 0.1 * abs(math.log10(values["learning_rate"]) + 1) + 0.02 * deep


def trial(number: int, values: dict, **changes) -> Trial:
    """A trial of three epochs with these values."""
    score = accuracy(values)
    deep = values["model_arguments.depths"] == [2, 2, 2]
    given = {
        "id": f"{number:04}",
        "kind": "search",
        "values": values,
        "seed": number,
        "epochs": 3,
        "state": "COMPLETED",
        "score": score,
        "objective": (score / 2, score * 0.9, score),
        "figures": {"loss": 1 - score, "eval_accuracy": score, "eval_loss": 1.1 - score},
        "begin": BEGIN + 10 * number,
        "seconds": 8.0,
        "attempts": 1,
        "worker": "0",
        "parameters": 270_000 if deep else 75_000,
        "macs": 40_000_000 if deep else 12_000_000,
    }
    return Trial(**{**given, **changes})


def proposed(number: int, seed: int = 0) -> list[dict]:
    """Sets of values that are drawn at random."""
    random = np.random.default_rng(seed)
    return [
        {
            "learning_rate": float(10 ** random.uniform(-3, 0)),
            "model_arguments.depths": [int(random.integers(1, 3))] * 3,
            "random_shift": int(random.integers(0, 4)),
        }
        for _ in range(number)
    ]


def searched(number: int = 24, trials: tuple[Trial, ...] = (), **changes) -> Record:
    """A search: the configuration, what was proposed, and the best of it with other seeds."""
    given = {"learning_rate": 0.003, "model_arguments.depths": [1, 1, 1], "random_shift": 1}
    tried = [trial(0, given, kind="default")]
    tried += [trial(n, values) for n, values in enumerate(proposed(number), 1)]
    tried += trials
    best = max((one for one in tried if one.score is not None), key=lambda one: one.score)
    finals = [
        trial(len(tried) + n, one.values, kind="final", repeats=one.id, seed=100 + n)
        for n, one in enumerate((tried[0], best, best))
    ]
    record = {
        "algorithm": "bayesian",
        "objective": "eval_accuracy",
        "direction": "max",
        "space": SPACE,
        "epochs": 3,
        "seconds": 10.0 * (len(tried) + len(finals)),
        "best": best.id,
        "reason": "0.90 against 0.75",
        "trials": (*tried, *finals),
    }
    return Record(**{**record, **changes})
