"""What ExampleGen costs on Flink beside the same in one process.

Needs Java 17 and Maven, which fetches Flink and Beam's job server once. The cluster has two task
managers on this machine; every process of it counts. Starting is not counted: of the time of all
images that of a tenth is taken away.
"""

from benchmarks.plan import Aim, Benchmark, Case, Prepare, Side

_SIDES = "benchmarks.sides.flink:"


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    images = 4_000 if quick else 50_000
    return [
        Case(
            f"{images:,} PNG files of 32 by 32 pixels",
            "images",
            (
                Side("ExampleGen, Flink, 2 slots", _SIDES + "Flink", {"slots": 2}),
                Side("FnApiRunner, 1 process", _SIDES + "Here", {}, Aim(ratio=0.7, by="cpu")),
            ),
            rounds=2,
            warm_up=False,
            seconds=700,
            patience=1800,
            prepare=Prepare(_SIDES + "prepare", {"images": images}, seconds=60),
            note=(
                "images a second of CPU time of all processes together; CIFAR-10 where "
                "KERAS_RESNET_TEST_DATA has it, else as many made-up pictures"
            ),
        )
    ]


BENCHMARK = Benchmark("flink", "What does it cost to take images in on Flink?", cases)
