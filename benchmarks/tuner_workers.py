"""What a second worker saves of the time of a search.

The same search, random values for the learning rate and the weight decay of the digits' network, is
done by one worker process that is held on one core, and by two that are held on one each. What is
compared is the time of Tuner as a whole: starting the processes, loading TensorFlow in each,
compiling and training, choosing the next trial. The chief has the same cores as its workers. Both
have to find the same scores.
"""

from benchmarks.plan import Aim, Benchmark, Case, Prepare, Side

_SIDES = "benchmarks.sides.tuner_workers:"
# Wall seconds of two workers, at most 0.7 of those of one.
_TWO = Aim(ratio=1 / 0.7)


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    trials, epochs = (2, 1) if quick else (4, 4)

    def side(name: str, workers: int, aim: Aim | None = None) -> Side:
        arguments = {"workers": workers, "trials": trials, "epochs": epochs}
        return Side(name, _SIDES + "Search", arguments, aim)

    return [
        Case(
            f"{trials} trials of {epochs} epochs",
            "trials",
            (
                side("two workers on a core each", 2),
                side("one worker on one core", 1, _TWO),
            ),
            rounds=1,
            warm_up=False,
            seconds=70,
            prepare=Prepare(_SIDES + "prepare", seconds=15),
        )
    ]


BENCHMARK = Benchmark("tuner_workers", "What does a second worker save of a search?", cases)
