"""Measures BulkInferrer against a bare loop over the same SavedModel.

    python -m benchmarks.bulk_inference [--images 1000] [--size 64] [--repeats 5]

Each figure is the median over repeats of a ratio of two runs that follow each other; each run is a
process of its own, and both write a line of JSON for every image. The images are JPEG files of 384
by 512 pixels, made here with as much detail as photographs have, or those of `--data`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.photographs import make

_CLASSES = [f"class {number}" for number in range(1000)]


def save(model: str, size: int, folder: Path) -> None:
    """Writes the SavedModel of an untrained network."""
    import keras

    import keras_resnet
    from pipeline.serving import export
    from pipeline.training.preprocessing import Preprocessing

    keras.utils.set_random_seed(0)
    network = keras_resnet.create(model, input_shape=(size, size, 3), classes=len(_CLASSES))
    expected = Preprocessing(height=size, width=size, mean=(127.5,) * 3, std=(60.0,) * 3)
    export.save(network, _CLASSES, expected, folder)


def bare_loop(data: Path, model: Path, output: Path, batch: int) -> None:
    """Asks the SavedModel about one batch after the other; keeps and checks nothing else."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    files = sorted(data.rglob("*.jpg"))
    with output.open("w") as file:
        for start in range(0, len(files), batch):
            paths = files[start : start + batch]
            answer = signature(image_bytes=tf.constant([path.read_bytes() for path in paths]))
            names, scores = answer["classes"].numpy(), answer["scores"].numpy()
            for path, classes, numbers in zip(paths, names, scores, strict=True):
                row = {
                    "path": str(path),
                    "classes": [name.decode() for name in classes],
                    "scores": numbers.tolist(),
                }
                file.write(f"{json.dumps(row)}\n")


def bulk(data: Path, model: Path, output: Path, batch: int) -> None:
    """Does the job."""
    from pipeline.bulk import job
    from pipeline.orchestration.artifact import Context

    request = job.Request(data=str(data), model=model, name="benchmark", batch_size=batch)
    job.run(request, output, Context("benchmark"))


def one(what: str, data: Path, model: Path, batch: int) -> None:
    """Does one of the two, and prints CPU and wall seconds with and without loading libraries."""
    import apache_beam  # noqa: F401  in both, so that the rest can be compared
    import tensorflow  # noqa: F401

    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        loaded, begin = time.process_time(), time.perf_counter()
        do = {"loop": bare_loop, "bulk": bulk}[what]
        do(data, model, Path(folder, "output"), batch)
        found = {
            "cpu": time.process_time() - loaded,
            "process": time.process_time(),
            "wall": time.perf_counter() - begin,
        }
    print(json.dumps(found))


def measured(what: str, data: Path, model: Path, batch: int) -> dict[str, float]:
    """Does one of the two in a process of its own."""
    arguments = ["--one", what, "--data", str(data), "--saved", str(model), "--batch", str(batch)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.bulk_inference", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Prints milliseconds per image of both, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, help="a folder of JPEG files to use instead")
    parser.add_argument("--one", choices=["loop", "bulk"], help=argparse.SUPPRESS)
    parser.add_argument("--saved", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.data, options.saved, options.batch)
        return
    folder = Path(tempfile.mkdtemp(prefix="bulk_inference-"))
    try:
        data, model = options.data or folder / "photos", folder / "model"
        if not options.data:
            make(data, options.images, 384, 512)
        save(options.model, options.size, model)
        count = len(list(data.rglob("*.jpg")))
        runs: dict[str, list[dict[str, float]]] = {"bulk": [], "loop": []}
        for _ in range(options.repeats):
            for what, found in runs.items():
                found.append(measured(what, data, model, options.batch))
    finally:
        shutil.rmtree(folder)
    print(f"{options.model} at {options.size} pixels, {count} images, batches of {options.batch}")
    for what, found in runs.items():
        cpu, wall = (
            statistics.median(1e3 * row[key] / count for row in found) for key in ("cpu", "wall")
        )
        print(f"{what}  CPU {cpu:7.2f} ms  wall {wall:7.2f} ms per image")
    for key, said in (
        ("cpu", "CPU seconds per image"),
        ("process", "those of the whole process"),
        ("wall", "wall seconds"),
    ):
        ratios = [a[key] / b[key] for a, b in zip(runs["bulk"], runs["loop"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{said}, against a bare loop: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
