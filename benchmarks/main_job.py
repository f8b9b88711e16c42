"""How long the main job takes, from images to a pushed model, and what it takes when repeated.

The job is `python -m pipeline run`, the embedded digits, in an empty folder: one process from its
start to its end. The second run is the same command in the folder of a first one; it finds that
nothing has changed.
"""

from benchmarks.plan import Aim, Benchmark, Case, Prepare, Side

_SIDES = "benchmarks.sides.main_job:"
_SECOND = Aim(seconds=3)


def cases(quick: bool) -> list[Case]:
    """Returns the cases; the second finds what the first has left."""
    more = ["--to", "ExampleValidator"] if quick else []
    # Cases that are prepared alike share the folder.
    prepare = Prepare(_SIDES + "prepare", seconds=0.5)

    def case(name: str, target: str, rounds: int, seconds: float, aim: Aim | None = None) -> Case:
        return Case(
            f"python -m pipeline run, {name}",
            "runs",
            (Side("keras_resnet", _SIDES + target, {"more": more}, aim),),
            show="time",
            rounds=rounds,
            warm_up=False,
            seconds=seconds,
            prepare=prepare,
        )

    return [case("first", "First", 2, 75), case("second", "Second", 3, 12, _SECOND)]


BENCHMARK = Benchmark("main_job", "How long does the main job take, first and again?", cases)
