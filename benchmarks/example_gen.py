"""Measures ExampleGen against a plain loop, two workers against one, and the memory it takes.

    python -m benchmarks.example_gen [--images 8000] [--repeats 3]

Each figure is the median over repeats of a ratio of two runs that follow each other; each run is a
process of its own. The images are JPEG files of 384 by 512 pixels for the times, and small ones for
the memory; both are made here, with as much detail as photographs have.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.photographs import make


def example_gen(source: Path, destination: Path, workers: int) -> None:
    """Runs the component."""
    from pipeline.components import example_gen as component
    from pipeline.orchestration.artifact import Artifact, Context

    destination.mkdir()
    component.run(
        {},
        {"examples": Artifact("Examples", destination)},
        component.Parameters(source=str(source)),
        Context("benchmark", workers=workers),
    )


def plain_loop(source: Path, destination: Path) -> None:
    """Does the same to every image, in a loop that keeps nothing but what it needs.

    Reads, decodes twice, hashes, serializes and writes; drops equal pictures. It neither spreads
    the work nor survives anything, and its order is that of the folder.
    """
    from hashlib import sha256

    from pipeline import sources
    from pipeline.beam import reading
    from pipeline.records import examples, images, tfrecord

    opened = sources.open_source(str(source))
    labels = {text: label for label, text in enumerate(opened.classes)}
    shares = {"train": 0.8, "eval": 0.1, "test": 0.1}
    destination.mkdir()
    files = {name: (destination / name).open("wb") for name in shares}
    seen = set()
    for part in opened.parts:
        for reference, encoded in opened.read(part):
            try:
                image = images.normalize(encoded)
            except images.BadImageError:
                continue
            sha256(encoded).hexdigest()
            if image.pixels in seen:
                continue
            seen.add(image.pixels)
            payload = examples.serialize(
                examples.ImageExample(
                    image.encoded,
                    image.format,
                    image.height,
                    image.width,
                    labels[reference.text],
                    reference.text,
                    reference.name,
                )
            )
            split = reading.assign_split(image.pixels, shares)
            files[split].write(tfrecord.frame(payload))
    for file in files.values():
        file.flush()
        os.fsync(file.fileno())
        file.close()


def measured(*arguments: str) -> dict[str, float]:
    """Runs this script in a process of its own; returns CPU and wall seconds and peak memory."""
    begin = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.example_gen", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall": time.perf_counter() - begin,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "memory": json.loads(ended.stdout.splitlines()[-1])["memory"],
    }


def one(what: str, source: Path) -> None:
    """Runs one of the things that are compared, and prints the peak memory in MiB."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        destination = Path(folder, "out")
        if what == "loop":
            plain_loop(source, destination)
        else:
            example_gen(source, destination, int(what))
    print(json.dumps({"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def ratio(source: Path, first: str, second: str, key: str, repeats: int) -> float:
    """Returns the median of `key` of the first over that of the second, alternated."""
    found = []
    for _ in range(repeats):
        a, b = measured("--one", first, str(source)), measured("--one", second, str(source))
        found.append(a[key] / b[key])
        print(f"  {key} {a[key]:.1f} / {b[key]:.1f} = {found[-1]:.2f}", flush=True)
    return statistics.median(found)


def main() -> None:
    """Prints the three ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8000, help="photographs for the times")
    parser.add_argument("--small", type=int, default=4000, help="small images for the memory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "SOURCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]))
        return
    folder = Path(tempfile.mkdtemp(prefix="example_gen-"))
    try:
        photos = folder / "photos"
        make(photos, options.images, 384, 512)
        print(f"{options.images} photographs; 1 = ExampleGen, loop = a plain loop")
        cpu = ratio(photos, "1", "loop", "cpu", options.repeats)
        wall = ratio(photos, "2", "1", "wall", options.repeats)
        few, many = folder / "few", folder / "many"
        make(few, options.small, 32, 32)
        make(many, 10 * options.small, 32, 32)
        memory = (
            measured("--one", "1", str(many))["memory"] / measured("--one", "1", str(few))["memory"]
        )
    finally:
        shutil.rmtree(folder)
    print(f"CPU seconds, one process, against a plain loop:    {cpu:.2f} (at most 1.30)")
    print(f"wall seconds, two workers against one:             {wall:.2f} (at most 0.70)")
    print(
        f"peak memory, {10 * options.small:,} images against {options.small:,}:   {memory:.2f} (at most 1.20)"
    )


if __name__ == "__main__":
    main()
