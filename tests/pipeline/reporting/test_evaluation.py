"""The page of an evaluation: whole in itself, safe with foreign names, and with the right figures."""

import dataclasses
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pipeline.evaluation import assessment, verdict
from pipeline.evaluation.assessment import Sampling
from pipeline.evaluation.comparison import Rule
from pipeline.evaluation.thresholds import Thresholds
from pipeline.records.examples import ImageExample
from pipeline.reporting import evaluation, evaluation_charts
from tests.pipeline import builders
from tests.pipeline.evaluation import fakes

HOSTILE = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.links, self.open, self.text = html, [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[key] for key in ("src", "href", "action") if key in attributes]
        assert not [key for key in attributes if key.startswith("on")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += f" {data.strip()}"


def drawn(classes=4, examples=80, baseline=True, names=None, **features):
    ours, labels = fakes.drawn(classes, examples, 0, sharpness=4)
    theirs, _ = fakes.drawn(classes, examples, 0, sharpness=5)
    found = fakes.table(ours, labels, theirs if baseline else None, **features)
    return dataclasses.replace(found, classes=tuple(names or found.classes))


def page(found, thresholds=None, rule=None, slices=None, resamples=50, pictures=None):
    rule = rule or Rule()
    assessed = assessment.assess(found, slices or {}, rule, Sampling(resamples))
    against = "saved_models/m/1" if found.baseline is not None else ""
    decided = verdict.decide(assessed, thresholds or Thresholds(accuracy=0.99), rule, against)
    chosen = evaluation.choose(assessed, 6, 2)

    def picture(index):
        encoded = builders.encode(builders.noise(index))
        if pictures is not None:
            encoded = pictures
        return ImageExample(encoded, "png", 12, 10, 0, "0", found.filenames[index])

    shown = {found.places[index]: picture(index) for index in chosen.all}
    html = evaluation.render("m", assessed, decided, chosen, shown)
    return Page(html), assessed, decided, chosen


def test_a_page_is_whole_in_itself_and_well_formed():
    found = drawn(**{"image/brightness": list(np.arange(80.0)), "image/group": ["a", "b"] * 40})
    shown, assessed, decided, chosen = page(found, slices={"image/brightness": 3, "image/group": 2})
    assert shown.open == []
    assert {link[0] for link in shown.links} == {"#", "d"}
    assert all(link.startswith(("#", "data:image/")) for link in shown.links)
    assert "default-src 'none'" in shown.html and "script" not in shown.tags
    assert f"{100 * assessed.figures['accuracy'].value:.2f} %" in shown.text
    assert f"{assessed.figures['log_loss'].value:.4f}" in shown.text
    assert "NOT BLESSED" in shown.text and decided.reasons[0] in shown.text
    assert shown.tags.count("img") == len(chosen.worst) + sum(map(len, chosen.per_class.values()))
    assert shown.html == page(found, slices={"image/brightness": 3, "image/group": 2})[0].html


def test_foreign_names_are_text_and_what_cannot_be_shown_is_escaped():
    names = [HOSTILE, "turned\u202egpj", "größe", "d"]
    strange = [os.fsdecode(b"caf\xe9" + HOSTILE.encode() + str(n).encode()) for n in range(80)]
    found = drawn(names=names, **{"image/group": [HOSTILE, "b"] * 40})
    found = dataclasses.replace(found, filenames=strange)
    shown, *_ = page(found, slices={"image/group": 2})
    assert "script" not in shown.tags
    assert HOSTILE in shown.text and "größe" in shown.text
    assert "\u202e" not in shown.html and "turned\\u202egpj" in shown.text
    assert "caf\\xe9" in shown.text
    shown.html.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": False},
        {"classes": 50, "examples": 120},
        {"classes": 1, "examples": 3},
        {"classes": 300, "examples": 40},
        {"examples": 1},
    ],
)
def test_whatever_is_missing_or_plenty_there_is_a_page(change):
    shown, *_ = page(drawn(**change))
    assert "Most often taken for another" in shown.text or "Nothing is taken" in shown.text


def test_without_resamples_rules_pictures_or_thresholds_there_is_a_page():
    found = drawn()
    shown, *_ = page(found, Thresholds(), resamples=0, pictures=b"no image")
    assert "Without intervals" in shown.text and "no picture" in shown.text
    assert "no thresholds are configured" in shown.text


def test_the_gallery_shows_the_most_confident_mistakes_of_all_and_of_each_class():
    _, assessed, _, chosen = page(drawn())
    given = assessed.predictions
    scores = given.candidate.score[list(chosen.worst)]
    assert (np.diff(scores) <= 0).all()
    wrong = given.candidate.predicted != given.labels
    assert scores[0] == given.candidate.score[wrong].max()
    for label, indices in chosen.per_class.items():
        assert {int(given.labels[index]) for index in indices} == {label}
        assert wrong[list(indices)].all() and len(indices) <= 2


def test_drawings_stay_within_their_frames():
    found = drawn(**{"image/brightness": list(np.arange(80.0))})
    _, assessed, decided, _ = page(found, slices={"image/brightness": 4})
    for column in evaluation_charts.reliability(assessed.reliability):
        assert 0 <= column.y <= evaluation_charts.SQUARE >= column.x + column.width
        assert 0 < column.share <= evaluation_charts.HISTOGRAM
    strip = evaluation_charts.comparison(decided.compared, decided.rule)
    assert 0 <= strip.band.low < strip.band.at < strip.band.high <= evaluation_charts.STRIP
    assert strip.bar < strip.zero
    for forest in evaluation_charts.forests(assessed)["image/brightness"]:
        for line in forest.lines:
            assert 0 <= line.band.low <= line.band.at <= line.band.high <= evaluation_charts.FOREST


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (evaluation.figure(0.97346), "97.35 %"),
        (evaluation.figure(0.5, "log_loss"), "0.5000"),
        (evaluation.figure(None), "–"),
        (evaluation.signed(-0.0123), "−1.23"),
        (evaluation.interval([-0.01, 0.02], "accuracy", sign=True), "−1.00 to +2.00"),
        (evaluation.p_value(1e-9), "< 0.0001"),
    ],
)
def test_numbers_are_written_for_a_person(text, expected):
    assert text == expected


def test_every_metric_has_a_title():
    _, assessed, _, _ = page(drawn(classes=2, examples=20))
    assert set(assessed.figures) == set(evaluation.TITLES)
    assert re.search(r"^[A-Z]", evaluation.TITLES["log_loss"])
