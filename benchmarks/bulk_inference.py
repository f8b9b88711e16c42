"""How many images a second BulkInferrer classifies, beside a bare loop over the same SavedModel.

Both load the model, read every file, ask in batches of 32, and write a line of JSON for every image.
The loop lists nothing beforehand, survives nothing, checks nothing, and writes one file.
"""

from benchmarks import serving
from benchmarks.plan import Aim, Benchmark, Case, Side

_SIDES = "benchmarks.sides.bulk_inference:"
# CPU seconds of an image beside those of the loop, at most 1.2 times.
_LOOP = Aim(ratio=1 / 1.2, by="cpu")


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    images = 40 if quick else 500
    return [
        Case(
            f"ResNet-18 at 64 pixels, {images} photographs of 384 by 512",
            "images",
            (Side("BulkInferrer", _SIDES + "Job"), Side("bare loop", _SIDES + "Loop", {}, _LOOP)),
            rounds=3,
            together=True,
            seconds=45,
            prepare=serving.prepared(images, "resnet18", 64),
        )
    ]


BENCHMARK = Benchmark(
    "bulk_inference", "How many images a second does BulkInferrer classify?", cases
)
