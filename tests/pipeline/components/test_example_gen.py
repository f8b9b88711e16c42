"""ExampleGen: what it keeps, what it refuses, and that a crash leaves nothing that looks finished."""

import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import files
from pipeline.components import example_gen
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration.artifact import Context
from pipeline.records import images, manifest, tfrecord
from pipeline.sources import base
from tests.pipeline import builders
from tests.pipeline.test_cli import environment


def run(root, source, workers=1, **parameters):
    """Runs the component; returns its artifact and its outcome."""
    written = builders.artifact(root, "Examples")
    outcome = example_gen.run(
        {},
        {"examples": written},
        example_gen.Parameters(source=str(source), **parameters),
        Context("tiny", workers=workers),
    )
    return written, outcome


def lines(artifact, name):
    return [json.loads(line) for line in (artifact.uri / f"{name}.jsonl").read_text().splitlines()]


def leakage(artifact):
    return json.loads((artifact.uri / "leakage.json").read_text())


def sizes(artifact):
    contents = manifest.load(artifact.uri)
    return {name: split.examples for name, split in contents.splits.items()}


def stored(artifact):
    """Every example that was written, by its file name."""
    contents = manifest.load(artifact.uri)
    return {
        example.filename: (split, example)
        for split in contents.splits
        if contents.splits[split].examples
        for example in manifest.examples_of(artifact.uri, contents, split)
    }


def smooth(seed, height=48, width=64):
    """A picture as photographs are: its neighbours resemble each other."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def messy_folder(root):
    """Good images, copies, contradictions and broken files."""
    builders.image_folder(root, ("cat", "dog", "owl"), 30)
    shutil.copy(root / "cat" / "001.png", root / "cat" / "copy.png")
    shutil.copy(root / "cat" / "002.png", root / "dog" / "other.png")
    (root / "owl" / "empty.jpg").write_bytes(b"")
    return root


@pytest.mark.slow
def test_two_workers_write_the_same_bytes_as_one(tmp_path):
    source = messy_folder(tmp_path / "images")
    one, first = run(tmp_path / "one", source, shards=3)
    two, second = run(tmp_path / "two", source, workers=2, shards=3)
    assert files.tree_digest(one.uri) == files.tree_digest(two.uri)
    assert first == second


def split_folder(root):
    """Official splits with a copy across them, a copy within one, and a contradiction."""
    builders.image_folder(root / "train", ("cat", "dog"), 6)
    for name in ("cat", "dog"):
        (root / "test" / name).mkdir(parents=True)
    shutil.copy(root / "train" / "cat" / "000.png", root / "test" / "cat" / "leak.png")
    shutil.copy(root / "train" / "cat" / "001.png", root / "train" / "cat" / "again.png")
    shutil.copy(root / "train" / "cat" / "002.png", root / "test" / "dog" / "wrong.png")
    return root


def test_official_splits_are_not_touched_but_what_is_wrong_with_them_is_said(tmp_path):
    written, outcome = run(tmp_path / "out", split_folder(tmp_path / "images"), near=None)
    assert sizes(written) == {"train": 13, "eval": 0, "test": 2}
    assert set(json.loads(written.properties["official_splits"])) == {"train", "test"}
    assert lines(written, "quarantine") == lines(written, "duplicates") == []
    assert leakage(written) == {
        "eval": {"exact": 0, "near": 0},
        "test": {"exact": 2, "near": 0},
    }
    found = {
        (Path(entry["name"]).name, Path(entry["other"]).name)
        for entry in lines(written, "overlaps")
    }
    # Of two copies the one that measures comes first; of one split, the first name.
    assert found == {("000.png", "leak.png"), ("again.png", "001.png"), ("002.png", "wrong.png")}
    assert outcome.result.endswith("3 copies kept")


def test_official_splits_can_be_cleaned_or_ignored(tmp_path):
    source = split_folder(tmp_path / "images")
    cleaned, _ = run(tmp_path / "a", source, official_splits="clean")
    assert sizes(cleaned) == {"train": 10, "eval": 0, "test": 1}
    assert {Path(entry["name"]).name for entry in lines(cleaned, "quarantine")} == {
        "002.png",
        "wrong.png",
    }
    ignored, _ = run(
        tmp_path / "b",
        source,
        official_splits="ignore",
        splits={"train": 0.2, "eval": 0.4, "test": 0.4},
    )
    assert ignored.properties["official_splits"] == "[]"
    assert sizes(ignored)["eval"] > 0
    assert sum(sizes(ignored).values()) == 11


def in_memory(monkeypatch, references, **fields):
    """Makes ExampleGen read these `(Reference, bytes)`."""
    source = base.Source(
        name="memory",
        classes=tuple(sorted({reference.text for reference, _ in references if reference.text})),
        total=fields.pop("total", len(references)),
        parts=base.in_parts(references, 5),
        read=iter,
        digest=lambda: "",
        **fields,
    )
    monkeypatch.setattr(example_gen, "_open", lambda parameters: source)


def test_a_group_stays_together_wherever_it_goes(tmp_path, monkeypatch):
    references = [
        (
            base.Reference(f"{group}/{number}", "ab"[number % 2], group=f"patient {group}"),
            builders.encode(builders.noise(100 * group + number)),
        )
        for group in range(12)
        for number in range(6)
    ]
    in_memory(monkeypatch, references)
    shares = {"train": 0.4, "eval": 0.3, "test": 0.3}
    written, _ = run(tmp_path / "a", "memory", splits=shares)
    groups = {}
    for split, example in stored(written).values():
        groups.setdefault(example.group, set()).add(split)
    assert len(groups) == 12
    assert all(len(splits) == 1 for splits in groups.values())
    assert len(set.union(*groups.values())) == 3
    before = {name: split for name, (split, _) in stored(written).items()}

    # What comes later moves nothing.
    more = base.Reference("new", "a", group="patient 3")
    in_memory(monkeypatch, [(more, builders.encode(builders.noise(9999))), *references])
    grown, _ = run(tmp_path / "b", "memory", splits=shares)
    after = {name: split for name, (split, _) in stored(grown).items()}
    assert {after["new"]} == groups["patient 3"]
    assert {name: after[name] for name in before} == before


def test_a_copy_in_another_group_leaves_the_training_split(tmp_path, monkeypatch):
    picture = builders.encode(builders.noise(1))
    references = [(base.Reference(f"{g}", "a", group=f"{g}"), picture) for g in range(20)]
    references.append((base.Reference("other", "b"), builders.encode(builders.noise(2))))
    in_memory(monkeypatch, references)
    written, _ = run(tmp_path / "a", "memory", splits={"train": 0.4, "eval": 0.3, "test": 0.3})
    copies = [split for split, example in stored(written).values() if example.text == "a"]
    assert copies == ["test"]
    assert len(lines(written, "duplicates")) == 19


def test_what_has_no_class_is_accounted_for(tmp_path, monkeypatch):
    references = [
        (base.Reference(f"{n}", "ab"[n % 2]), builders.encode(builders.noise(n))) for n in range(40)
    ]
    references.append((base.Reference("row 7", "", bad="no_label"), b""))
    in_memory(monkeypatch, references)
    written, _ = run(tmp_path / "a", "memory")
    rows = json.loads((written.uri / "account.json").read_text())
    assert rows["classes"][""] == {"seen": 1, "written": 0, "quarantined": 1, "duplicates": 0}
    assert rows["all"] == {"seen": 41, "written": 40, "quarantined": 1, "duplicates": 0}
    assert lines(written, "quarantine")[0]["reason"] == "no_label"


def test_an_image_that_the_source_promised_and_did_not_give_stops_the_run(tmp_path, monkeypatch):
    references = [
        (base.Reference(f"{n}", "ab"[n % 2]), builders.encode(builders.noise(n))) for n in range(4)
    ]
    in_memory(monkeypatch, references, total=5)
    with pytest.raises(DataError, match="found 4 images where there should be 5"):
        run(tmp_path / "a", "memory")


def test_damaged_shards_stop_the_run_unless_allowed(tmp_path, monkeypatch):
    references = [
        (base.Reference(f"{n}", "ab"[n % 2]), builders.encode(builders.noise(n))) for n in range(4)
    ]
    in_memory(monkeypatch, references, damaged=("x.tfrecord: cut in record 7",))
    _, outcome = run(tmp_path / "a", "memory")
    assert "1 damaged files, of which nobody can say" in outcome.refusal
    assert "x.tfrecord: cut in record 7" in outcome.refusal
    _, outcome = run(tmp_path / "b", "memory", allow_damaged_shards=True)
    assert outcome.refusal is None


def near_folder(root):
    """Twenty pictures, of which two come again: compressed harder, and smaller."""
    for number in range(20):
        save(smooth(number), root / "ab"[number % 2] / f"{number:02}.png")
    save(smooth(0), root / "a" / "hard.jpg", quality=70)
    save(smooth(1).resize((44, 33)), root / "b" / "small.png")
    return root


def test_near_duplicates_are_reported_and_kept(tmp_path):
    written, outcome = run(tmp_path / "a", near_folder(tmp_path / "images"))
    pairs = {
        frozenset(Path(entry[key]).name for key in ("name", "other"))
        for entry in lines(written, "overlaps")
    }
    assert pairs == {frozenset({"00.png", "hard.jpg"}), frozenset({"01.png", "small.png"})}
    assert sum(sizes(written).values()) == 22
    assert outcome.result.endswith("2 near duplicates")


def test_near_duplicates_are_dropped_on_request_and_accounted_for(tmp_path):
    written, outcome = run(tmp_path / "a", near_folder(tmp_path / "images"), drop_near=4)
    assert sum(sizes(written).values()) == 20
    dropped = lines(written, "duplicates")
    assert {entry["reason"] for entry in dropped} == {"near_duplicate"}
    kept = stored(written)
    assert all(entry["kept"] in kept and entry["name"] not in kept for entry in dropped)
    assert lines(written, "overlaps") == []
    assert json.loads((written.uri / "account.json").read_text())["all"] == {
        "seen": 22,
        "written": 20,
        "quarantined": 0,
        "duplicates": 2,
    }
    assert outcome.result.endswith("2 duplicates")


def test_near_duplicates_of_another_class_are_never_dropped(tmp_path):
    folder = near_folder(tmp_path / "images")
    (folder / "a" / "hard.jpg").rename(folder / "b" / "hard.jpg")
    written, _ = run(tmp_path / "a", folder, drop_near=4)
    assert [Path(entry["name"]).name for entry in lines(written, "overlaps")] in (
        ["hard.jpg"],
        ["00.png"],
    )
    assert sum(sizes(written).values()) == 21


def test_digits_look_alike_and_yet_none_is_dropped(tmp_path):
    """A hash of 64 bits says of honest images that they are one; their pixels say otherwise."""
    written, _ = run(tmp_path / "a", "digits", drop_near=4)
    assert len(lines(written, "overlaps")) > 40
    assert sum(sizes(written).values()) == 1797


def test_images_are_shrunk_to_the_short_side_and_never_enlarged(tmp_path):
    folder = tmp_path / "images"
    save(smooth(0, 48, 64), folder / "a" / "wide.png")
    save(smooth(1, 90, 30), folder / "a" / "tall.jpg", quality=90)
    save(smooth(2, 10, 20), folder / "b" / "tiny.png")
    written, _ = run(tmp_path / "a", folder, short_side=24)
    found = {
        Path(name).name: (example.height, example.width, example.format)
        for name, (_, example) in stored(written).items()
    }
    assert found == {
        "wide.png": (24, 32, "png"),
        "tall.jpg": (72, 24, "jpeg"),
        "tiny.png": (10, 20, "png"),
    }
    tiny = next(e for n, (_, e) in stored(written).items() if n.endswith("tiny.png"))
    assert tiny.encoded == (folder / "b" / "tiny.png").read_bytes()


def test_limits_and_background_are_parameters(tmp_path):
    folder = builders.image_folder(tmp_path / "images", images=20)
    save(smooth(0, 10, 300), folder / "cat" / "long.png")
    save(smooth(1, 100, 100), folder / "cat" / "many.png")
    clear = save(Image.new("RGBA", (5, 5), (0, 0, 0, 0)), folder / "dog" / "clear.png")
    (folder / "dog" / "big.png").write_bytes(builders.encode(builders.noise(5)) + bytes(30_000))
    written, _ = run(
        tmp_path / "a",
        folder,
        max_side=200,
        max_pixels=9_000,
        max_bytes=30_000,
        background=(0, 255, 0),
        max_bad_fraction=1.0,
    )
    reasons = {Path(e["name"]).name: e["reason"] for e in lines(written, "quarantine")}
    assert reasons == {
        "long.png": "too_long",
        "many.png": "too_many_pixels",
        "big.png": "too_many_bytes",
    }
    _, example = stored(written)[str(clear)]
    with Image.open(io.BytesIO(example.encoded)) as picture:
        assert picture.getpixel((2, 2)) == (0, 255, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("background", (0, 0, 256)),
        ("jpeg_quality", 0),
        ("near", 17),
        ("official_splits", "perhaps"),
        ("max_bad_fraction", 1.5),
        ("splits", {"train": 1.0}),
    ],
)
def test_wrong_parameters_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        example_gen.Parameters(**{key: value})


def test_a_source_that_is_not_there_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        example_gen.check(example_gen.Parameters(source=str(tmp_path / "none")))


def test_a_run_opens_its_source_once_and_the_next_run_opens_it_anew(tmp_path, monkeypatch):
    source = builders.image_folder(tmp_path / "images")
    opened = []
    original = example_gen._open
    monkeypatch.setattr(example_gen, "_open", lambda p: opened.append(1) or original(p))
    parameters = example_gen.Parameters(source=str(source))
    example_gen.check(parameters)
    before = example_gen.external(parameters)
    # The data change between two runs.
    (source / "cat" / "000.png").write_bytes(builders.encode(builders.noise(777)))
    assert len(opened) == 1
    assert example_gen.external(parameters) != before
    example_gen.run(
        {}, {"examples": builders.artifact(tmp_path / "out")}, parameters, builders.CONTEXT
    )
    assert len(opened) == 2


def test_look_alikes_of_official_splits_stay_and_that_is_said(tmp_path):
    source = tmp_path / "images"
    for number in range(12):
        split = "test" if number < 4 else "train"
        save(smooth(number), source / split / "ab"[number % 2] / f"{number:02}.png")
    save(smooth(0), source / "train" / "a" / "hard.jpg", quality=70)
    save(smooth(1), source / "test" / "b" / "hard.jpg", quality=70)
    written = builders.artifact(tmp_path / "out", "Examples")
    said = []
    example_gen.run(
        {},
        {"examples": written},
        example_gen.Parameters(source=str(source), drop_near=4),
        Context("tiny", say=said.append),
    )
    assert sizes(written) == {"train": 9, "eval": 0, "test": 5}
    assert len(lines(written, "overlaps")) == 2
    assert leakage(written)["test"] == {"exact": 0, "near": 1}
    assert "official_splits=clean drops them" in said[0]
    cleaned, _ = run(tmp_path / "clean", source, drop_near=4, official_splits="clean")
    assert sizes(cleaned) == {"train": 8, "eval": 0, "test": 4}


def test_one_picture_in_several_groups_is_written_the_same_whatever_comes_first(
    tmp_path, monkeypatch
):
    references = [
        (
            base.Reference(f"{n}", "ab"[n % 2], group=f"{n}{group}"),
            builders.encode(builders.noise(n)),
        )
        for n in range(30)
        for group in ("x", "y")
    ]
    in_memory(monkeypatch, references)
    first, _ = run(tmp_path / "a", "memory")
    in_memory(monkeypatch, references[::-1])
    second, _ = run(tmp_path / "b", "memory")
    assert files.tree_digest(first.uri) == files.tree_digest(second.uri)


def test_whatever_a_decoder_raises_costs_one_image(tmp_path, monkeypatch):
    source = builders.image_folder(tmp_path / "images")
    normalize = images.normalize

    def broken(encoded, rules):
        if encoded == (source / "cat" / "003.png").read_bytes():
            raise MemoryError
        return normalize(encoded, rules)

    monkeypatch.setattr(images, "normalize", broken)
    written, _ = run(tmp_path / "a", source)
    (entry,) = lines(written, "quarantine")
    assert (Path(entry["name"]).name, entry["reason"]) == ("003.png", "unexpected_MemoryError")


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, caplog):
    def full(path, frames):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(tfrecord, "write_frames", full)
    with pytest.raises(PipelineError, match=r"the disk is full .*--root, and run again") as found:
        run(tmp_path / "a", builders.image_folder(tmp_path / "images"))
    assert "while running" not in str(found.value)
    assert not caplog.records


def test_a_class_whose_name_is_no_text_is_wrong_use(tmp_path):
    folder = builders.image_folder(tmp_path / "images", images=2)
    (folder / "cat").rename(folder / os.fsdecode(b"c\xff"))
    with pytest.raises(UsageError, match=r"the class 'c.udcff' is not UTF-8"):
        example_gen.check(example_gen.Parameters(source=str(folder)))


def test_every_odd_image_is_written_or_quarantined_with_a_reason(real_images, tmp_path):
    """By the rule: written if Pillow decodes it strictly and TensorFlow what is stored."""
    odd = real_images / "odd_images"
    described = {e["file"]: e for e in json.loads((odd / "manifest.json").read_text())}
    folder = tmp_path / "images"
    for number, name in enumerate(described):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(odd / name, folder / "ab"[number % 2] / name)
    written, _ = run(tmp_path / "a", folder, max_bad_fraction=1.0, max_bytes=1 << 30)
    seen = json.loads((written.uri / "account.json").read_text())["all"]
    assert seen["seen"] == len(described) == 38
    good = {Path(name).name for name in stored(written)}
    gone = {Path(entry["name"]).name for entry in lines(written, "duplicates")}
    bad = {Path(entry["name"]).name: entry["reason"] for entry in lines(written, "quarantine")}
    assert good | gone | bad.keys() == described.keys()
    for name in good | gone:
        assert described[name]["pillow_decodes"], name
    for name, reason in bad.items():
        assert reason != "unreadable"
        if described[name]["pillow_decodes"]:
            assert reason in (
                "too_many_pixels",
                "conflicting_labels",
                "not_decodable_by_tensorflow",
            )


_KILLED = """
import sys
from pathlib import Path
from pipeline.components import example_gen
from pipeline.orchestration import graph, runner, view

source, root, workers = sys.argv[1:]
nodes = [graph.Node("ExampleGen", example_gen, example_gen.Parameters(source=source, shards=2))]
print("begin", flush=True)
runner.execute(nodes, "killed", Path(root), view.Silent(), int(workers))
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A messy folder, the digest of what comes of it, and the seconds that takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = messy_folder(folder / "images")
    begin = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", _KILLED, source, folder / "root", "1"], check=True, timeout=120
    )
    (examples_,) = (folder / "root" / "ExampleGen" / "examples").iterdir()
    return source, files.tree_digest(examples_), time.monotonic() - begin


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """So many pictures that they take seconds."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(800):
        save(smooth(index, 240, 320), folder / "ab"[index % 2] / f"{index}.jpg", quality=90)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "number", "code"), [(1, signal.SIGINT, 130), (2, signal.SIGTERM, 75)]
)
def test_a_run_that_is_told_to_stop_does_so_in_one_line(tmp_path, many, workers, number, code):
    command = [*builders.PYTHON, "run", "--data", str(many), "--name", "images"]
    process = subprocess.Popen(
        [*command, "--until", "ExampleGen", "--workers", str(workers)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    spools = tmp_path / "runs" / "images" / ".system" / "staging"
    while not any(path.stat().st_size for path in spools.glob("*/examples/.spool-*/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    begin = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert time.monotonic() - begin < 20
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith(
        "stopped; " if code == 130 else "error: ExampleGen: stopped by SIGTERM"
    )
    assert not list(spools.iterdir())


@pytest.mark.soak
def test_a_killed_run_leaves_nothing_that_looks_finished(undisturbed, tmp_path, round_):
    source, digest, seconds = undisturbed
    root = tmp_path / "root"
    command = [sys.executable, "-c", _KILLED, source, root, str(1 + round_ % 2)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(random.Random(round_).uniform(0, seconds))
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = root / "ExampleGen" / "examples"
    for found in finished.iterdir() if finished.exists() else ():
        assert files.tree_digest(found) == digest

    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    newest = max(finished.iterdir(), key=lambda path: int(path.name))
    assert files.tree_digest(newest) == digest
    staging = root / ".system" / "staging"
    assert not staging.exists() or not list(staging.iterdir())
