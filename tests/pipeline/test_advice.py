"""The configuration that is proposed for a person's own images."""

import itertools
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import advice, api, config, machine, survey
from pipeline.advice import Hardware
from pipeline.errors import UsageError
from pipeline.survey import Survey
from tests.pipeline import builders

CPU = Hardware(cores=4)
GPU = Hardware(cores=16, gpus=("NVIDIA H200",), memory=143_000)


def surveyed(images=3_000, side=300, counts=None, splits=None, data="photos"):
    counts = counts or {"cat": images // 2, "dog": images - images // 2}
    return Survey(
        data=data,
        name="photos",
        total=sum(counts.values()),
        counts=counts,
        splits=splits or {},
        counted=True,
        looked=1,
        sizes=[(side, side + 10)],
        formats={"JPEG": 1},
        unreadable=[],
        notices=(),
    )


def proposed(found, hardware=CPU):
    return config.check(advice.configuration(found, hardware, "mine"), "proposed")


@pytest.mark.parametrize(
    ("images", "side", "hardware", "model", "size", "recipe"),
    [
        (1_797, 8, CPU, "cifar_resnet20", 16, "default"),
        (60_000, 28, CPU, "cifar_resnet20", 32, "default"),
        (60_000, 32, GPU, "wrn_28_10", 32, "wrn_cifar"),
        (400, 384, CPU, "resnet18", 64, "default"),
        (100_000, 500, CPU, "resnet18", 64, "default"),
        (400, 384, GPU, "resnet18", 224, "default"),
        (100_000, 500, GPU, "resnet50", 160, "rsb_a3"),
        (1_200_000, 500, GPU, "resnet50", 224, "rsb_a2"),
        (1_200_000, 70, GPU, "resnet50", 64, "rsb_a2"),
    ],
)
def test_network_size_and_recipe_follow_images_and_hardware(
    images, side, hardware, model, size, recipe
):
    found = proposed(surveyed(images, side), hardware).trainer
    assert (found.model, found.image_size, found.recipe) == (model, (size, size), recipe)


def test_a_step_is_a_part_of_the_training_split_and_the_rate_goes_with_it():
    few, many = proposed(surveyed(100)).trainer, proposed(surveyed(100_000)).trainer
    assert (few.batch_size, many.batch_size) == (8, 64)
    assert few.learning_rate / few.batch_size == many.learning_rate / many.batch_size
    assert few.epochs > many.epochs
    assert proposed(surveyed(100_000), GPU).trainer.batch_size == 256


def test_the_hardware_is_that_of_the_machine(monkeypatch):
    gpus = [machine.Gpu("A", 40_000, 0, "1"), machine.Gpu("B", 16_000, 0, "1")]
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    found = advice.hardware()
    assert (found.gpus, found.memory) == (("A", "B"), 16_000)
    assert found.cores == machine.cores().usable
    assert f"A, B ({16_000 / 1024:.0f} GiB)" in str(found)
    monkeypatch.setattr(machine, "gpus", list)
    assert str(advice.hardware()).endswith("no GPU")


def test_splits_of_its_own_are_kept_where_a_run_can_do_with_them():
    kept = proposed(surveyed(splits={"train": 2_000, "test": 1_000})).example_gen
    assert kept.official_splits == "keep"
    anew = proposed(surveyed(splits={"train": 2_000, "eval": 1_000})).example_gen
    assert anew.official_splits == "ignore"
    text = advice.configuration(surveyed(splits={"train": 2, "eval": 1}), CPU, "mine")
    assert "has no split test, so that it is split anew" in text


def test_rare_classes_are_weighted_and_very_rare_ones_let_through():
    found = proposed(surveyed(counts={"cat": 1_000, "dog": 5}))
    assert found.trainer.class_weights == "balanced"
    assert found.example_validator.max_imbalance == 1_000
    assert proposed(surveyed()).trainer.class_weights == "none"


def test_the_threshold_lies_above_guessing():
    even = proposed(surveyed(counts=dict.fromkeys("abcdefghij", 100)))
    assert even.evaluator.thresholds.accuracy == pytest.approx(0.2)
    skewed = proposed(surveyed(counts={"cat": 99, "dog": 1}))
    assert skewed.evaluator.thresholds.accuracy == pytest.approx(0.99)


def test_every_key_has_a_reason_above_it():
    for hardware in (CPU, GPU):
        lines = advice.configuration(surveyed(400), hardware, "mine").splitlines()
        for above, line in itertools.pairwise(lines):
            if ":" in line and "#" not in line and not line.endswith(":"):
                assert above.lstrip().startswith("# "), line
        assert max(map(len, lines)) <= 100


names = st.text(min_size=1, max_size=20) | st.text(st.characters(), min_size=1, max_size=5)


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(names, st.integers(0, 10**7), min_size=2, max_size=12).filter(
        lambda counts: sum(counts.values())
    ),
    st.dictionaries(st.sampled_from(("train", "eval", "test")), st.integers(0, 10**6)),
    st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)), max_size=3),
    names,
    st.integers(1, 256),
    st.lists(names, max_size=8),
    st.integers(0, 200_000),
)
def test_whatever_is_found_the_file_is_a_configuration_of_it(
    counts, splits, sizes, data, cores, gpus, memory
):
    found = Survey(
        data, "x", sum(counts.values()), counts, splits, False, 7, sizes, {}, ["a\nb"], ("c\0d",)
    )
    text = advice.configuration(found, Hardware(cores, tuple(gpus), memory), "mine")
    read = config.check(text, "proposed")
    assert read.example_gen.source == data
    assert read.workers == cores
    assert yaml.safe_load(text)["name"] == "mine"


def call(*arguments, cwd):
    return subprocess.run(
        [*builders.PYTHON, "init", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_what_it_found_and_never_overwrites(tmp_path):
    builders.image_folder(tmp_path / "my photos")
    done = call("my photos", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "40 images of 2 classes: cat 20, dog 20.",
        "Shorter sides: 10 pixels. Files: PNG 40.",
        "wrote pipeline.yaml; next: python -m pipeline run pipeline.yaml",
    ]
    path = tmp_path / "pipeline.yaml"
    assert config.load(path).name == "my_photos"
    path.write_text("mine")
    done = call("my photos", cwd=tmp_path)
    assert done.returncode == 2
    assert "it is there already; --force writes over it" in done.stderr
    assert path.read_text() == "mine"
    assert call("my photos", "--force", "--name", "other", cwd=tmp_path).returncode == 0
    assert config.load(path).name == "other"


def test_a_folder_without_images_leaves_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    done = call("empty", cwd=tmp_path)
    assert done.returncode == 2
    assert "found no images" in done.stderr
    assert not (tmp_path / "pipeline.yaml").exists()


@pytest.mark.slow
def test_what_is_written_for_a_few_photos_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    builders.image_folder(tmp_path / "photos", images=40)
    text = advice.configuration(survey.look("photos"), advice.hardware(), "photos")
    (tmp_path / "pipeline.yaml").write_text(text)
    overrides = ["trainer.epochs=1", "trainer.model_arguments.depths=[1, 1, 1]", "workers=1"]
    result = api.run("pipeline.yaml", overrides=overrides, to="Trainer")
    assert (result.components["Trainer"].outputs["model"].uri / "Format-Serving").is_dir()


def test_a_name_that_is_none_is_refused(tmp_path):
    builders.image_folder(tmp_path / "photos")
    done = call("photos", "--name", "../x", cwd=tmp_path)
    assert done.returncode == 2
    assert "name: string should match pattern" in done.stderr
    with pytest.raises(UsageError):
        config.check("name: ../x", "x")
