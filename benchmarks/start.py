"""How long it takes until one can begin: imports, building networks, `--help`."""

from benchmarks.plan import Aim, Benchmark, Case, Side

_SIDES = "benchmarks.sides.start:"
_LARGE = {"ResNet-RS-420": "resnetrs420", "CIFAR ResNet-1202": "cifar_resnet1202"}


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    help_ = Case(
        "python -m pipeline --help",
        "answers",
        (_python("pipeline", ["-m", "pipeline", "--help"], Aim(seconds=0.3)),),
        show="time",
        rounds=9,
        seconds=5,
    )
    return [help_] if quick else [help_, _import(), _own_import(), *_building()]


def _python(name: str, arguments: list[str], aim: Aim | None = None) -> Side:
    return Side(name, _SIDES + "Python", {"arguments": arguments}, aim)


def _import() -> Case:
    return Case(
        "import",
        "processes",
        (
            _python("import keras_resnet", ["-c", "import keras_resnet"]),
            _python("import keras", ["-c", "import keras"]),
        ),
        show="time",
        rounds=3,
        seconds=28,
    )


def _own_import() -> Case:
    """The difference of the two above, without the spread of what they have in common."""
    return Case(
        "import keras_resnet where Keras is imported already",
        "imports",
        (Side("keras_resnet", _SIDES + "OwnImport", aim=Aim(seconds=0.1)),),
        show="time",
        rounds=3,
        seconds=12,
    )


def _building() -> list[Case]:
    def ours(name: str) -> Side:
        return Side("keras_resnet", _SIDES + "Ours", {"name": name})

    peer = Side("keras.applications", _SIDES + "Applications", {"name": "ResNet152"})
    against_peer = Case(
        "building ResNet-152 v1",
        "networks",
        (ours("keras_resnet152"), peer),
        show="time",
        rounds=2,
        seconds=28,
    )
    alone = [
        Case(
            f"building {name}",
            "networks",
            (ours(of),),
            show="time",
            rounds=2,
            warm_up=False,
            seconds=25,
        )
        for name, of in _LARGE.items()
    ]
    return [against_peer, *alone]


BENCHMARK = Benchmark(
    "start", "How long does it take to import, to build, and to be answered by `--help`?", cases
)
