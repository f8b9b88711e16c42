"""Who wins: never what was merely lucky."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.tuning import finals
from pipeline.tuning.finals import Rules
from pipeline.tuning.trial import Trial

RULES = Rules("eval_accuracy", "max", epochs=9, finalists=2, seeds=2, seed=7, examples=400)


def trial(number: int, score: float | None, kind: str = "search", **fields: object) -> Trial:
    return Trial(
        id=f"{number:04}",
        kind=kind,
        **{
            "values": {"learning_rate": float(number)},
            "seed": 7,
            "epochs": 9,
            "score": score,
            "state": "FAILED" if score is None else "COMPLETED",
            **fields,
        },
    )


def default(score: float | None, **fields: object) -> Trial:
    return trial(0, score, "default", **fields)


def final(of: int, number: int, score: float | None) -> Trial:
    fields = {"repeats": f"{of:04}", "seed": 7 + 1000 * number}
    return replace(trial(of, score, "final", **fields), id=f"{of:04}-{number}")


def test_a_search_that_found_nothing_better_needs_no_finals():
    trials = [default(0.9), trial(1, 0.9), trial(2, 0.8), trial(3, None)]
    assert finals.wanted(trials, RULES) == []
    assert finals.verdict(trials, RULES).best == "0000"


def test_the_best_are_trained_again_with_other_seeds():
    trials = [default(0.5), trial(1, 0.9), trial(2, 0.8), trial(3, 0.7), trial(4, None)]
    wanted = finals.wanted(trials, RULES)
    assert [(one.repeats, one.seed) for one in wanted] == [
        ("0001", 1007),
        ("0001", 2007),
        ("0002", 1007),
        ("0002", 2007),
    ]
    assert {one.epochs for one in wanted} == {9}


def test_the_configuration_is_trained_again_only_where_it_can_matter():
    found = [default(0.80), trial(1, 0.9), trial(2, 0.85)]
    clear = [*found, *(final(1, n, 0.90 + n / 1000) for n in (1, 2))]
    clear += [final(2, n, 0.86) for n in (1, 2)]
    assert finals.wanted(clear, RULES) == []
    assert finals.verdict(clear, RULES).best == "0001"

    close = [*found, *(final(1, n, 0.80 + n / 100) for n in (1, 2))]
    close += [final(2, n, 0.79) for n in (1, 2)]
    assert [one.repeats for one in finals.wanted(close, RULES)] == ["0000", "0000"]
    worse = [*found, *(final(k, n, 0.7) for k in (1, 2) for n in (1, 2))]
    assert finals.wanted(worse, RULES) == []
    assert finals.verdict(worse, RULES).best == "0000"


def test_it_is_beaten_by_more_than_a_standard_error_or_not_at_all():
    # Finalist: 0.91, 0.93; configuration: 0.90, 0.91, 0.92. Inside: 0.0002/1 and 0.0002/2, pooled
    # (0.0002 + 0.0002) / 3, so 0.01155 · √(1/2 + 1/3) = 0.01054 against a gap of 0.01.
    rules = Rules("eval_accuracy", "max", epochs=9, finalists=1, seeds=2, examples=400)
    trials = [default(0.90), trial(1, 0.95), final(1, 1, 0.91), final(1, 2, 0.93)]
    trials += [final(0, 1, 0.91), final(0, 2, 0.92)]
    told = finals.verdict(trials, rules)
    assert told.best == "0000"
    assert "0.01054" in told.reason
    trials[1:4] = [trial(1, 0.95), final(1, 1, 0.912), final(1, 2, 0.932)]
    assert finals.verdict(trials, rules).best == "0001"


def test_who_fails_with_another_seed_does_not_win():
    trials = [default(0.5), trial(1, 0.9), trial(2, 0.8)]
    trials += [final(1, 1, 0.9), final(1, 2, None), final(2, 1, 0.8), final(2, 2, 0.8)]
    assert finals.verdict(trials, RULES).best in ("0000", "0002")
    assert finals.wanted(trials, RULES)  # the configuration
    trials += [final(0, 1, 0.5), final(0, 2, 0.5)]
    assert finals.verdict(trials, RULES).best == "0002"


def test_a_configuration_that_failed_stays_behind():
    trials = [default(None), trial(1, 0.4)]
    assert finals.verdict([*trials, final(1, 1, 0.3), final(1, 2, 0.3)], RULES).best == "0001"
    assert finals.verdict([default(None), trial(1, None)], RULES).best is None


def test_a_short_training_is_compared_with_the_configuration_at_that_time():
    ran = default(0.9, objective=(0.1, 0.3, 0.6, 0.7, 0.8, 0.85, 0.9, 0.9, 0.9))
    short, poor = trial(1, 0.7, epochs=3), trial(2, 0.55, epochs=3)
    assert finals.finalists([ran, short, poor], RULES) == [short]
    longer = trial(3, 0.91, continues="0001", first_epoch=3, values=short.values)
    assert finals.finalists([ran, short, longer], RULES) == [longer]


def test_the_smallest_wins_where_it_is_asked_for():
    rules = Rules("eval_loss", "min", epochs=9, finalists=1, seeds=2)
    trials = [default(0.5), trial(1, 0.1), trial(2, 0.9), final(1, 1, 0.1), final(1, 2, 0.12)]
    assert finals.verdict(trials, rules).best == "0001"


@pytest.mark.parametrize(("gap", "best"), [(0.3, "0001"), (0.005, "0000")])
def test_without_time_for_finals_only_a_clear_winner_wins(gap, best):
    told = finals.verdict([default(0.5), trial(1, 0.5 + gap)], RULES)
    assert (told.best, "no time" in told.reason) == (best, True)


def test_luck_does_not_win():
    """Where all values are as good as the configuration or worse, it hardly ever loses its place.

    The best of 20 scores, by itself, is mostly another one.
    """
    draw = np.random.default_rng(0)
    spread, lost, lucky, runs = 0.01, 0, 0, 400
    for _ in range(runs):
        true = np.concatenate([[0.9], 0.9 - draw.exponential(2 * spread, 20)])
        trials = [default(draw.normal(0.9, spread))]
        trials += [trial(n, draw.normal(true[n], spread)) for n in range(1, 21)]
        lucky += max(trials, key=lambda one: one.score).id != "0000"
        while wanted := finals.wanted(trials, RULES):
            for one in wanted:
                score = draw.normal(true[int(one.repeats)], spread)
                trials.append(final(int(one.repeats), int(one.id[-1]), score))
        worse = 0.9 - true[int(finals.verdict(trials, RULES).best)]
        lost += worse > spread / np.sqrt(3)  # a standard error over three seeds
    assert lucky > 0.8 * runs
    assert lost < 0.1 * runs


def test_what_is_better_wins():
    draw = np.random.default_rng(1)
    won = 0
    for _ in range(100):
        trials = [default(draw.normal(0.85, 0.01)), trial(1, draw.normal(0.9, 0.01))]
        while wanted := finals.wanted(trials, RULES):
            for one in wanted:
                score = draw.normal((0.85, 0.9)[int(one.repeats)], 0.01)
                trials.append(final(int(one.repeats), int(one.id[-1]), score))
        won += finals.verdict(trials, RULES).best == "0001"
    assert won > 95
