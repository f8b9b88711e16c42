"""How fast ExampleGen takes images in, beside a plain loop, with more workers, and with more images.

The loop does the same to every image and nothing else: it spreads no work, survives nothing, seeks
nothing that looks alike, and leaves the order to the folder. Loading libraries and starting workers
is not counted.
"""

import os

from benchmarks.plan import Aim, Benchmark, Case, Prepare, Side

_SIDES = "benchmarks.sides.ingest:"
# CPU seconds beside those of the loop, at most 1.3 times; wall seconds of two workers, at most 0.7
# of those of one.
_LOOP = Aim(ratio=1 / 1.3, by="cpu")
_TWO = Aim(ratio=1 / 0.7)
# Images a second of CPU time for ten times as many images.
_MORE = Aim(ratio=0.9, by="cpu")
# Images of 32 by 32 pixels cost so little that what is left is the work beside the decoding.
_NUMBERS = (500, 5_000)


def cases(quick: bool) -> list[Case]:
    """Returns the cases."""
    cores = os.cpu_count() or 1
    number = 40 if quick else 1_000
    prepare = _photographs(number, 384, 512)
    name = f"{number:,} photographs of 384 by 512 pixels"
    workers = [count for count in (2, 4, 8, 16) if count <= cores]
    found = [
        Case(
            f"{name}, one process",
            "images",
            (_generator(1), Side("plain loop", _SIDES + "Loop", {}, _LOOP)),
            rounds=3,
            seconds=40,
            prepare=prepare,
        )
    ]
    if workers:
        most = workers[-1]
        fewer = [_generator(count) for count in (1, *workers[:-1])]
        fewer[0] = _generator(1, _TWO)
        found.append(
            Case(
                f"{name}, workers",
                "images",
                (_generator(most), *fewer),
                rounds=3,
                seconds=20 * (1 + len(fewer)),
                prepare=prepare,
            )
        )
    return [*found, _scaling((20, 40) if quick else _NUMBERS)]


def _scaling(numbers: tuple[int, int]) -> Case:
    few, many = numbers

    def side(number: int, aim: Aim | None = None) -> Side:
        arguments = {"workers": 1, "first": number}
        return Side(f"{number:,} images", _SIDES + "Generator", arguments, aim)

    return Case(
        "the number of images",
        "images",
        (side(many), side(few, _MORE)),
        rounds=2,
        warm_up=False,
        seconds=35,
        prepare=_photographs(many, 32, 32),
        note="images of 32 by 32 pixels; the same rate and memory mean that it scales",
    )


def _generator(workers: int, aim: Aim | None = None) -> Side:
    said = "1 worker" if workers == 1 else f"{workers} workers"
    return Side(f"ExampleGen, {said}", _SIDES + "Generator", {"workers": workers}, aim)


def _photographs(images: int, height: int, width: int) -> Prepare:
    arguments = {"images": images, "height": height, "width": width}
    return Prepare(_SIDES + "prepare", arguments, seconds=20)


BENCHMARK = Benchmark("ingest", "How many images a second does ExampleGen take in?", cases)
