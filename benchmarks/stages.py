"""What each stage of a run over many images costs, for planning ahead.

`docs/flink.md` reckons with these rates what 14 million images take.
"""

from benchmarks.plan import Benchmark, Case, Prepare, Side

_SIDES = "benchmarks.sides.stages:"
_WITH_A_MODEL = ("Evaluator", "BulkInferrer")
_STAGES = ("ExampleGen", "StatisticsGen", *_WITH_A_MODEL)


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    images = 40 if quick else 600
    prepare = Prepare(_SIDES + "prepare", {"images": images}, seconds=60)
    return [
        Case(
            f"{stage}, {images} photographs of 384 by 512 pixels",
            "images",
            (Side(stage, _SIDES + stage, {}),),
            rounds=3,
            seconds=90,
            prepare=prepare,
            note="ResNet-50 at 224 pixels, batches of 32" if stage in _WITH_A_MODEL else "",
        )
        for stage in _STAGES
    ]


BENCHMARK = Benchmark("stages", "How many images a second does each stage take?", cases)
