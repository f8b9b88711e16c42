"""The model card: each figure that it names is in the data, and what nobody said is not stated."""

import dataclasses

import pytest

from pipeline import files
from pipeline.evaluation.assessment import Figure, Slice
from pipeline.evaluation.calibration import Bin
from pipeline.reporting import evaluated, gather, model_card, training_curves
from pipeline.reporting.model_card import Known
from tests.pipeline.reporting import runs


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """What is known of a complete run."""
    folder = tmp_path_factory.mktemp("card")
    made = runs.pets(folder / "pets", classes=("cat", "dog"), baseline=False)
    made.end()
    run = made.store.run(1)
    root = run.step("Evaluator").outputs
    return Known(
        config={"trainer": {"model": "resnet18", "model_arguments": {"stem": "deep"}, "seed": 3}},
        data=gather.of_run(made.store, run),
        course=training_curves.read(run.step("Trainer").outputs["model_run"].uri),
        model={"parameters": 11_180_000, "preprocessing": {"height": 24, "width": 32}},
        evaluated=evaluated.read(root["evaluation"].uri),
        verdict=evaluated.verdict(root["blessing"].uri),
        pushed={
            "pushed_version": 7,
            "pushed_destination": "saved_models/pets/7",
            "label": "stable",
            "digest": "d1",
        },
    )


def card(known):
    """Returns the facts of each part by their names, and its sentences as one text."""
    parts = model_card.write(known)
    return (
        {part.title: dict(part.facts) for part in parts},
        {part.title: " ".join(part.sentences) for part in parts},
    )


def changed(known, **fields):
    """Returns the same with another evaluation."""
    return dataclasses.replace(known, evaluated=dataclasses.replace(known.evaluated, **fields))


def test_the_card_says_what_the_model_is_and_how_it_was_made(known):
    facts, _ = card(known)
    assert facts["Model"] == {
        "network": "resnet18 with stem=deep",
        "parameters": "11,180,000",
        "input": "RGB images, resized to 24 × 32 px",
        "version": "7 in saved_models/pets/7, as stable",
        "SHA-256": "d1",
    }
    assert facts["Data"] == {
        "source": "pets",
        "images": "25: 15 train, 4 eval, 6 test",
        "classes": "2",
        "left out": "3 unusable, 0 copies",
    }
    assert facts["Recipe"] == {
        "recipe": "default (what a test trains with)",
        "length": "2 epochs, 40 steps of 32 images",
        "optimizer": "sgd, learning rate 0.1",
        "schedule": "cosine after 1 epoch of warmup",
        "regularisation": "weight decay 0.0005",
        "augmentation": "random flip, mixup 0.2",
        "computed": "float32 on CPU:0, MirroredStrategy; the same to the last bit",
        "seed": "3",
    }


def test_metrics_stand_with_their_intervals(known):
    figure = known.evaluated.figures["accuracy"]
    low, high = (f"{100 * bound:.2f}" for bound in figure.interval)
    facts, _ = card(known)
    expected = f"{100 * figure.value:.2f} %, from {low} to {high} at 95 %"
    assert facts["Metrics"]["Accuracy"] == expected
    assert facts["Metrics"]["verdict"] == "blessed"
    assert "no model was in production" in facts["Metrics"]["against"]


def test_limits_name_the_smallest_class_the_least_found_one_and_what_is_confused(known):
    per_class = {
        "cat": {"examples": 40, "recall": 0.75, "recall_interval": [0.6, 0.86]},
        "dog": {"examples": 50, "recall": 0.9, "recall_interval": [0.8, 0.96]},
    }
    confusion = [(0, 0, 30), (0, 1, 10), (1, 0, 5), (1, 1, 45)]
    _, limits = card(changed(known, per_class=per_class, confusion=confusion))
    # Fifteen images of train in turn.
    assert (
        "The smallest class to learn from is 'dog' with 7 images; the largest, 'cat', has 8."
        in (limits["Limits"])
    )
    assert "'cat': 75.00 % of 40 images (from 60.00 to 86.00)" in limits["Limits"]
    assert "Most often it takes 'cat' for 'dog': 10 of 40 images." in limits["Limits"]
    assert "Anomalies of the data that a person let pass: train:imbalance." in limits["Limits"]
    assert "It was compared with no other model" in limits["Limits"]


@pytest.mark.parametrize(
    ("interval", "said"),
    [([0.2, 0.3], "Weaker where image/size is small: accuracy 25.00 %"), ([0.2, 0.99], "No slice")],
)
def test_a_slice_is_weak_only_where_its_whole_interval_is_below_the_whole(known, interval, said):
    own = Slice("image/size", "small", 12, {"accuracy": Figure(0.25, interval)}, {}, {})
    figures = {**known.evaluated.figures, "accuracy": Figure(0.9, [0.85, 0.95])}
    _, limits = card(changed(known, slices=[own], figures=figures))
    assert said in limits["Limits"]
    assert "in a range of 10.00 percentage points" in limits["Limits"]


@pytest.mark.parametrize(("accuracy", "way"), [(0.5, "too high"), (0.99, "too low")])
def test_confidence_is_too_high_where_it_is_above_the_share_of_right_answers(known, accuracy, way):
    bins = [Bin(0.0, 0.5, 0, None, None), Bin(0.5, 1.0, 80, 0.8, accuracy)]
    _, limits = card(changed(known, reliability=bins))
    assert f"on average, mostly {way}" in limits["Limits"]


def test_images_of_test_that_are_elsewhere_too_are_a_limit(known):
    pair = {"split": "train", "other_split": "test"}
    data = dataclasses.replace(known.data, overlaps=[pair, pair | {"other_split": "train"}])
    _, limits = card(dataclasses.replace(known, data=data))
    assert "Test and another split share 1 image," in limits["Limits"]


def test_what_only_a_person_knows_is_not_stated_until_somebody_says_it(known, tmp_path):
    facts, sentences = card(known)
    assert facts["Licence"] == {"of the data": "not stated", "of the model": "not stated"}
    assert "not stated" in sentences["Intended use"]
    words = {
        "intended_use": "Counts cats.",
        "limits": "Never at night.",
        "data_licence": "CC BY 4.0",
        "licence": "Apache-2.0",
    }
    said = dataclasses.replace(known, config={**known.config, "card": words})
    facts, sentences = card(said)
    assert facts["Licence"] == {"of the data": "CC BY 4.0", "of the model": "Apache-2.0"}
    assert sentences["Intended use"].startswith("Counts cats.")
    assert "not stated" not in sentences["Intended use"]
    assert sentences["Limits"].startswith("Never at night.")


def test_the_licence_of_a_data_set_in_the_format_of_tfds_is_its_own(known, tmp_path):
    licence = {"redistributionInfo": {"license": "CC BY-SA 3.0"}}
    files.write_json(tmp_path / "dataset_info.json", licence)
    data = dataclasses.replace(known.data, examples=tmp_path)
    facts, _ = card(dataclasses.replace(known, data=data))
    assert facts["Licence"]["of the data"] == "CC BY-SA 3.0"


def test_of_a_run_that_came_to_nothing_the_card_says_so():
    facts, sentences = card(Known({}))
    assert facts["Model"] == {"network": "not stated", "state": "not trained in this run"}
    assert facts["Data"]["images"] == "none were read in this run"
    assert facts["Metrics"] == {"test split": "not evaluated in this run"}
    assert "It has not been evaluated" in sentences["Limits"]
