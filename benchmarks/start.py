"""How long it takes until one can begin: imports, building networks, `--help`."""

from benchmarks.plan import Aim, Benchmark, Case, Side

_SIDES = "benchmarks.sides.start:"
_LARGE = ("resnet152", "resnet200", "wrn_101_2")


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    return [_imports(quick)]


def _imports(quick: bool) -> Case:
    def side(name: str, code: str, aim: Aim | None = None) -> Side:
        return Side(name, _SIDES + "Python", {"code": code}, aim)

    return Case(
        "import",
        "imports",
        (
            side("import keras_resnet", "import keras_resnet"),
            side("import keras", "import keras", Aim(extra_seconds=0.1)),
        ),
        show="time",
        rounds=9,
        seconds=120,
    )


BENCHMARK = Benchmark(
    "start", "How long does it take to import, to build, and to be answered by `--help`?", cases
)
