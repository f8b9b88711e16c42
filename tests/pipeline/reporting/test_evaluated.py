"""What is read back from the files of an evaluation is what was found."""

import dataclasses

import pytest

from pipeline import files
from pipeline.errors import DataError
from pipeline.evaluation import metrics
from pipeline.reporting import evaluated, evaluation
from tests.pipeline.reporting import runs

CLASSES = ("cat", "dog", "a, b", 'the "owl"')


def written(folder, **options):
    judged, decided, thresholds = runs.assessed(CLASSES, **options)
    (folder / "blessing").mkdir()
    runs.write_evaluation(folder, folder / "blessing", judged, decided, thresholds)
    return judged, decided


@pytest.mark.parametrize("options", [{}, {"baseline": False}, {"resamples": 0}])
def test_figures_classes_slices_and_bins_are_what_was_found(tmp_path, options):
    judged, decided = written(tmp_path, **options)
    found = evaluated.read(tmp_path)
    for field in dataclasses.fields(found):
        if field.name != "without":
            assert getattr(found, field.name) == getattr(judged, field.name), field.name
    assert evaluated.verdict(tmp_path / "blessing") == decided


def test_the_same_parts_of_a_page_are_drawn_from_both(tmp_path):
    judged, decided = written(tmp_path)
    found = evaluation.drawn(evaluated.read(tmp_path), decided)
    expected = evaluation.drawn(judged, decided)
    assert all(found[key] == expected[key] for key in expected if key != "found")


def test_the_worst_mistakes_are_those_that_were_kept_the_most_confident_first(tmp_path):
    judged, _ = written(tmp_path)
    given = judged.predictions
    ranked = metrics.worst(given.candidate, given.labels, given.keys)[:6]
    found = evaluated.worst(tmp_path, 4)
    assert [own.name for own in found] == [given.filenames[index] for index in ranked[:4]]
    for own, index in zip(found, ranked, strict=False):
        assert own.text == given.classes[given.labels[index]] != own.predicted
        assert own.image.read_bytes() == runs.example(index, 0, "").encoded
        assert own.score == given.candidate.score[index]


def test_an_evaluation_without_mistakes_has_none(tmp_path):
    written(tmp_path)
    for path in (tmp_path / "mistakes").iterdir():
        path.unlink()
    assert evaluated.worst(tmp_path, 4) == []


@pytest.mark.parametrize(
    ("name", "read"),
    [
        *((name, evaluated.read) for name in ("metrics.json", "slices.json", "calibration.json")),
        ("confusion.csv", evaluated.read),
        ("predictions.jsonl", lambda root: evaluated.worst(root, 3)),
    ],
)
def test_a_file_that_is_missing_is_named_and_one_that_is_damaged_an_error(tmp_path, name, read):
    written(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        read(tmp_path)
    (tmp_path / name).write_text("{,\n1")
    with pytest.raises(DataError, match="not"):
        read(tmp_path)


def test_files_of_another_version_are_said_to_be(tmp_path):
    written(tmp_path)
    files.write_json(tmp_path / "metrics.json", {"examples": 3})
    with pytest.raises(DataError, match="not as this version writes it"):
        evaluated.read(tmp_path)


def test_a_blessing_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="BLESSED: missing"):
        evaluated.verdict(tmp_path)
