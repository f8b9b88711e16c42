"""The page about a run: complete, partial, refused and failed ones, and how a browser shows it."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipeline import api
from pipeline.errors import PipelineError, UsageError
from pipeline.reporting import data_report, run_report
from tests.pipeline import builders
from tests.pipeline.reporting import browser, runs

HOSTILE = '"><script>alert(1)</script>'
TRACEBACK = """Traceback (most recent call last):
  File "pipeline/components/trainer.py", line 3, in run
    raise MemoryError("12 GiB")
MemoryError: 12 GiB for <a> batch
"""


class Page(HTMLParser):
    """What a browser makes of a page: elements, the text of each part, and what is linked."""

    def __init__(self, path):
        super().__init__()
        self.html, self.tags, self.links, self.ids, self.open = path.read_text(), [], [], [], []
        self.parts, self._part, self.images = {}, "head", []
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[key] for key in ("src", "href", "action") if key in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        assert not [key for key in attributes if key.startswith("on")]
        if tag == "img":
            self.images.append((self._part, attributes["src"]))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if attributes.get("class") == "part":
            self._part = attributes["id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and data.strip():
            self.parts.setdefault(self._part, []).append(data.strip())

    def of(self, part):
        """Returns the text of a part on one line."""
        return re.sub(r"\s+", " ", " ".join(self.parts[part]))


def page(made, path=None, fetch=lambda name: None):
    return Page(run_report.write(made.store, made.run, path, fetch=fetch))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that came to its end."""
    made = runs.pets(tmp_path_factory.mktemp("whole") / "pets")
    made.end()
    return made


def test_a_page_is_whole_in_itself_and_well_formed(whole):
    shown = page(whole)
    assert shown.open == []
    assert all(link.startswith(("#", "data:image/")) for link in shown.links)
    assert {link[1:] for link in shown.links if link[0] == "#"} <= set(shown.ids)
    assert len(set(shown.ids)) == len(shown.ids)
    assert "default-src 'none'" in shown.html and "script" not in shown.tags
    assert not re.search(r"https?://|url\(|@import", shown.html)


def test_every_part_of_a_complete_run_is_told(whole):
    shown = page(whole)
    assert list(shown.parts) == [
        *("head", "graph", "data", "training", "evaluation", "serving", "card", "again")
    ]
    assert "Run 1 pets COMPLETE" in shown.of("head")
    for component in runs.GRAPH:
        assert component in shown.of("graph")
    assert "28 images seen" in shown.of("data") and runs.ANOMALY["name"] in shown.of("data")
    assert "40 steps of 32 images" in shown.of("training")
    assert "121 images per second" in shown.of("training")  # the median of 102 to 140
    assert "25.0 % of the time" in shown.of("training")
    assert "Steps 7 to 8: the loss is nan. It went back to step 5" in shown.of("training")
    assert "BLESSED" in shown.of("evaluation") and "NOT BLESSED" not in shown.of("evaluation")
    assert "difference" in shown.of("evaluation")
    assert "FIT TO SERVE" in shown.of("serving") and "saved_models/pets/7" in shown.of("serving")
    assert "max difference 2.42e-07 latency ms 1: p50 2.31; 8: p50 9" in shown.of("serving")
    assert runs.COMMAND in shown.of("again") and "Pillow" in shown.of("again")
    assert "source: pets" in shown.of("again")


def test_pictures_under_two_labels_and_pairs_that_look_alike_are_shown(whole):
    found = page(whole).of("data")
    assert "no picture pets/0.jpg cat no picture pets/1.jpg dog" in found
    assert "looks alike: 3 of 64 bits differ" in found and "--waive test:near_leakage" in found


def test_equal_runs_give_equal_bytes_below_the_root_and_elsewhere(whole, tmp_path):
    first = run_report.write(whole.store, whole.run, fetch=lambda name: None)
    second = run_report.write(whole.store, whole.run, tmp_path / "a.html", fetch=lambda name: None)
    assert first == whole.store.root / "reports" / "1.html"
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("until", "parts"),
    [
        (None, []),
        ("ExampleGen", ["data"]),
        ("ExampleValidator", ["data"]),
        ("Trainer", ["data", "training"]),
        ("InfraValidator", ["data", "training", "evaluation", "serving"]),
    ],
)
def test_a_run_that_went_not_to_the_end_has_the_parts_that_it_came_to(tmp_path, until, parts):
    made = runs.pets(tmp_path / "pets", until) if until else runs.Recorded(tmp_path / "pets")
    made.end()
    shown = page(made)
    assert list(shown.parts) == ["head", "graph", *parts, "card", "again"]
    assert "not run" in shown.of("graph")
    if until in (None, "ExampleGen", "ExampleValidator"):
        assert "not trained in this run" in shown.of("card")
        assert "It has not been evaluated" in shown.of("card")


def test_a_refusal_says_why_and_what_was_not_run_for_it(tmp_path):
    made = runs.pets(tmp_path / "pets", until="StatisticsGen")
    made.step("SchemaGen", schema={})
    made.step("ExampleValidator", refusal="train:leakage: 3 images of test are in train")
    made.end("FAILED", "ExampleValidator: train:leakage: 3 images of test are in train")
    shown = page(made)
    assert "Run 1 pets REFUSED" in shown.of("head")
    assert "ExampleValidator refused. train:leakage: 3 images of test are in train" in shown.of(
        "head"
    )
    assert "Not run for it: Trainer, Evaluator, InfraValidator, Pusher." in shown.of("head")


def test_what_was_evaluated_is_shown_although_it_was_not_blessed(tmp_path):
    made = runs.pets(tmp_path / "pets", until="Evaluator", at_least=0.999, baseline=False)
    made.end("FAILED")
    shown = page(made)
    assert "NOT BLESSED" in shown.of("evaluation")
    assert "expected at least 0.999" in shown.of("evaluation")
    assert "no model is in production" in shown.of("evaluation")
    assert shown.of("evaluation").count("which got") > 0


def test_a_failure_shows_its_error_and_how_far_the_training_came(tmp_path):
    made = runs.pets(tmp_path / "pets", until="ExampleValidator")
    runs.write_training(made.store.state("Trainer", "key of Trainer"))
    (made.store.state("Trainer", "key of Trainer") / "settings.json").unlink()
    made.step("Trainer", error=TRACEBACK)
    made.end("FAILED", "Trainer: MemoryError: 12 GiB for <a> batch")
    shown = page(made)
    assert "Run 1 pets FAILED" in shown.of("head")
    assert "Trainer failed. MemoryError: 12 GiB for <a> batch" in shown.of("head")
    assert 'line 3, in run raise MemoryError("12 GiB")' in shown.of("head")
    assert "As far as it came" in shown.of("training") and "Loss" in shown.of("training")


def test_a_component_that_was_used_again_is_unchanged_and_shows_what_it_made(tmp_path):
    made = runs.pets(tmp_path / "pets", until="ExampleGen")
    made.end()
    store = made.store
    again = store.begin_run("pets", list(runs.GRAPH.items()), {}, runs.COMMAND, "")
    (execution,) = store.completed("ExampleGen")
    assert store.use(execution, again)
    store.end_run(again, "COMPLETE")
    shown = Page(run_report.write(store, again, fetch=lambda name: None))
    assert "ExampleGen ↺ unchanged" in shown.of("graph")
    assert "28 images seen" in shown.of("data")


def test_components_of_a_persons_own_are_in_the_graph(tmp_path):
    graph = {"ExampleGen": (), "my_own_component_of_a_long_name": ("ExampleGen",)}
    made = runs.Recorded(tmp_path / "pets", graph=graph)
    made.step("ExampleGen", examples={}, result="ingested")
    shutil.rmtree(tmp_path / "pets" / "ExampleGen")
    made.step("my_own_component_of_a_long_name", result="counted 3 <things>")
    made.end()
    assert "counted 3 <things>" in page(made).of("graph")


def test_foreign_names_are_text(tmp_path):
    config = {"card": {"intended_use": HOSTILE}, "name": HOSTILE}
    made = runs.pets(tmp_path / "pets", classes=(HOSTILE, "turned\u202egpj"), config=config)
    made.end()
    shown = page(made)
    assert "script" not in shown.tags and HOSTILE in shown.of("evaluation")
    assert HOSTILE in shown.of("card") and "\u202e" not in shown.html


def test_what_was_removed_is_left_out_and_what_is_damaged_is_said(tmp_path):
    made = runs.pets(tmp_path / "pets")
    made.end()
    (root,) = (tmp_path / "pets" / "Evaluator" / "evaluation").iterdir()
    (root / "metrics.json").write_text("{")
    shown = page(made)
    assert "The evaluation cannot be shown" in shown.of("head")
    assert "metrics.json" in shown.of("head")
    for component in ("ExampleGen", "Trainer", "Evaluator"):
        shutil.rmtree(tmp_path / "pets" / component)
    shown = page(made)
    assert list(shown.parts) == ["head", "graph", "serving", "card", "again"]
    assert "cannot be shown" not in shown.of("head")


def test_a_source_that_cannot_be_reached_is_said_once(whole, tmp_path):
    asked = []

    def fetch(name):
        asked.append(name)
        raise PipelineError("gs://pets: no network")

    assert page(whole, tmp_path / "a.html", fetch).of("head").count("no network") == 1
    assert len(asked) == 1


def test_a_run_that_is_not_known_is_a_usage_error(whole):
    with pytest.raises(UsageError, match="run 99"):
        run_report.write(whole.store, 99)


def test_a_page_is_drawn_without_tensorflow(whole, tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline.orchestration.store import Store\n"
        "from pipeline.reporting import run_report\n"
        f"run_report.write(Store(Path({str(whole.store.root)!r})), 1, Path('a.html'))\n"
        "assert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)


def test_a_run_leaves_its_page_and_what_a_person_says_of_the_model_runs_nothing_again(tmp_path):
    folder = builders.image_folder(tmp_path / "pets", images=8)
    config = {
        "name": "pets",
        "root": tmp_path / "runs",
        "example_gen": {"source": str(folder)},
        "trainer": {},
    }
    api.run(config, to="StatisticsGen")
    first = Page(tmp_path / "runs" / "pets" / "reports" / "1.html")
    assert "16 images seen" in first.of("data") and "not stated" in first.of("card")
    assert [part for part, _ in first.images].count("data") == 12  # six of each class
    again = api.run(config | {"card": {"data_licence": "CC0 1.0"}}, to="StatisticsGen")
    assert all(component.cached for component in again.components.values())
    second = Page(tmp_path / "runs" / "pets" / "reports" / "2.html")
    assert "of the data CC0 1.0" in second.of("card")
    assert second.of("graph").count("unchanged") >= 2


@pytest.fixture(scope="module")
def pages(whole, tmp_path_factory):
    """Pages that are hard to show: of every part, of many long names, of a failure."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("a" * 80, "a name of many words " * 6, *(f"class {n}" for n in range(28)))
    long = runs.pets(folder / "long" / "pets", classes=names, at_least=0.99, baseline=False)
    long.end("FAILED")
    failed = runs.pets(folder / "failed" / "pets", until="SchemaGen")
    failed.step("ExampleValidator", error=TRACEBACK + "E: " + "/a/very/long/path" * 20)
    failed.end("FAILED")
    written = {}
    for name, made in (("whole", whole), ("long", long), ("failed", failed)):
        path = folder / f"{name}.html"
        written[name] = run_report.write(made.store, made.run, path, fetch=lambda name: None)
    data = folder / "data.html"
    written["data"] = data_report.write(whole.store.root, data, fetch=lambda name: None)
    return written


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "long", "failed", "data"])
def test_in_a_browser_nothing_sticks_out_and_all_can_be_read(chromium, pages, name, tmp_path):
    assert browser.console(pages[name], tmp_path) == []
    for dark in (False, True):
        for shown in browser.measure(pages[name], (360, 800, 1280), tmp_path, dark):
            assert shown["width"] == shown["window"]
            assert shown["texts"] > 50
            assert shown["faint"] == []
            assert (shown["paper"] < 0.05) == dark


@pytest.mark.slow
def test_the_measure_finds_what_is_wrong(chromium, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><style>@media (prefers-color-scheme: dark) { body { background: #111 } }"
        '</style><body><p style="width:500px;color:#aaa">faint and wide<script>'
        'console.error("broken")</script><img src="https://localhost:1/none.png">'
    )
    assert any("broken" in line for line in browser.console(path, tmp_path))
    light, dark = (browser.measure(path, (360,), tmp_path, own)[0] for own in (False, True))
    assert light["width"] > light["window"] == 360
    assert [text for text, _ in light["faint"]] == ["faint and wide"] and dark["faint"] == []
    assert dark["paper"] < 0.05 < light["paper"]


@pytest.mark.slow
def test_a_screenshot_in_the_dark_is_dark(chromium, pages, tmp_path):
    for dark in (False, True):
        picture = browser.screenshot(pages["whole"], 1280, 800, tmp_path, dark)
        with Image.open(picture) as image:
            pixels = sorted(image.convert("L").get_flattened_data())
        assert (pixels[len(pixels) // 2] < 60) == dark
        # Text stands out from it.
        assert pixels[0] < 60 and pixels[-1] > 200
