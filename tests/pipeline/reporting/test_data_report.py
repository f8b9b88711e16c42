import contextlib
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline import files
from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.orchestration.artifact import Outcome
from pipeline.orchestration.store import Store
from pipeline.reporting import data_report, explanations, gather, page
from tests.pipeline import builders
from tests.pipeline.reporting import runs

HOSTILE = os.fsdecode(b'caf\xe9"><script>alert(1)</script>.png')
TURNED = "innocent\u202egpj.exe"


class Page(HTMLParser):
    """What a browser makes of a page: elements, the text of each section, pictures."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.links, self.images = html, [], [], []
        self.sections, self._open = {}, ""
        self.feed(html)
        self.text = " ".join(" ".join(parts) for parts in self.sections.values())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[key] for key in ("src", "href", "action") if key in attributes]
        assert not [key for key in attributes if key.startswith("on")]
        if tag == "section":
            self._open = attributes["id"]
        if tag == "img":
            self.images.append((self._open, attributes["title"]))

    def handle_endtag(self, tag):
        if tag == "section":
            self._open = ""

    def handle_data(self, data):
        if data.strip():
            self.sections.setdefault(self._open, []).append(data.strip())

    def of(self, section):
        """Returns the text of a section on one line."""
        return re.sub(r"\s+", " ", " ".join(self.sections[section]))


class Run:
    """A pipeline root with artifacts as the components write them."""

    def __init__(self, root):
        self.root, self.store = root, Store(root)
        self.outputs, self.made = {}, {}

    def execute(self, component, output, write, inputs=(), refusal=None, **properties):
        read = {key: self.outputs[key].digest for key in inputs}
        dependencies = {"inputs": read, "parameters": {"source": str(self.root)}}
        execution = self.store.begin(component, "key", dependencies)
        staged = builders.artifact(self.store.staging(execution, output), **properties)
        write(staged.uri)
        done = self.store.complete(execution, {output: staged}, Outcome("done", refusal))
        self.outputs[output] = done.outputs[output]
        self.made[component] = done

    def examples(self, splits, classes, refusal=None, span=None, **lists):
        """Writes examples: split to a list of them; and files: name to entries or an object."""
        self.execute(
            "ExampleGen",
            "examples",
            lambda root: runs.write_examples(root, splits, classes, **lists),
            refusal=refusal,
            span=span,
        )

    def statistics(self, **splits):
        """Writes for each split one histogram of brightness and the mean of the channels."""
        names = json.dumps(list(splits))
        self.execute(
            "StatisticsGen",
            "statistics",
            lambda root: runs.write_statistics(root, **splits),
            ("examples",),
            split_names=names,
        )

    def validated(self, entries):
        self.execute(
            "ExampleValidator",
            "anomalies",
            lambda root: files.write_json(root / "anomalies.json", entries),
            ("statistics",),
        )

    def page(self, **options):
        return Page(data_report.write(self.root, **options).read_text())


def _bad(name, reason, text="cat", **more):
    return {"name": name, "class": text, "sha256": f"{name!a}{reason}", "reason": reason, **more}


def _fate(seen, written, quarantined=0, copies=0):
    return {"seen": seen, "written": written, "quarantined": quarantined, "duplicates": copies}


@pytest.fixture
def run(tmp_path):
    """A run with everything in it."""
    folder = tmp_path / "images"
    folder.mkdir()
    whole = builders.encode(builders.noise(99, 60, 60), "JPEG")
    contents = {"cut.jpg": whole[:-900], "same.png": whole, "dog.png": whole, TURNED: b"MZ"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / HOSTILE.replace("/", "_")).write_bytes(b"")
    path = {name: str(folder / name.replace("/", "_")) for name in (*contents, HOSTILE)}
    run = Run(tmp_path / "runs" / "pets")
    conflict = {"classes": "cat and dog", "sha256": "c0ffee"}
    run.examples(
        {
            "train": [runs.example(i, i % 2, ("cat", "dog")[i % 2]) for i in range(20)],
            "eval": [runs.example(30, 0, "cat", (24, 10))],
            "test": [],
        },
        ("cat", "dog"),
        account={
            "all": _fate(28, 21, 5, 2),
            "classes": {"cat": _fate(16, 11, 4, 1), "dog": _fate(12, 10, 1, 1)},
        },
        quarantine=[
            _bad(path["cut.jpg"], "damaged"),
            _bad(path[HOSTILE], "empty"),
            _bad(path[TURNED], "not_an_image"),
            _bad(path["same.png"], "conflicting_labels", **conflict),
            _bad(path["dog.png"], "conflicting_labels", "dog", **conflict),
        ],
        duplicates=[
            _bad(path["same.png"], "duplicate", kept="cat/0.png"),
            _bad(path["dog.png"], "near_duplicate", "dog", kept="gone.png", distance=3),
        ],
        overlaps=[
            {
                "kind": "near",
                "name": path["same.png"],
                "class": "cat",
                "split": "test",
                "other": path["dog.png"],
                "other_class": other,
                "other_split": "train",
                "distance": distance,
            }
            for other, distance in (("cat", 1), ("dog", 4))
        ],
    )
    run.statistics(train={8: 5, 16: 2}, eval={232: 1})
    run.validated(
        [
            {
                "name": f"train:{code}",
                "split": "train",
                "code": code,
                "feature": "image/encoded",
                "severity": severity,
                "description": f"what {code} <found>",
                "waived": waived,
            }
            for code, severity, waived in (
                ("imbalance", "WARNING", False),
                ("drift", "WARNING", True),
                ("leakage", "ERROR", False),
            )
        ]
    )
    return run


def test_the_account_adds_up_before_the_eyes_of_the_reader(run):
    page = run.page()
    assert page.of("account") == (
        "Account 28 images seen = 21 written, 75.0 % + 5 quarantined, 17.9 % + 2 duplicates, 7.1 %"
    )
    classes = page.of("classes")
    assert "21 images of 2 classes are in the records, 20 in train (95.2 %), 1 in eval" in classes
    # train, eval, test, quarantined, duplicates, seen
    assert "cat 10 1 0 4 1 16" in classes
    assert "dog 10 0 0 1 1 12" in classes


def test_each_class_has_a_strip_of_its_pictures(run):
    titles = [title for section, title in run.page().images if section == "pictures"]
    assert [title.split("/")[0] for title in titles] == ["cat"] * 8 + ["dog"] * 8
    assert len(set(titles)) == 16
    assert any("10 × 24 px" in title for title in titles)  # of the eval split too


def test_the_quarantine_says_why_and_shows_what_can_be_shown(run):
    page = run.page()
    quarantine = page.of("quarantine")
    for reason in ("damaged", "empty", "not_an_image", "conflicting_labels"):
        assert explanations.explain(reason).meaning in quarantine
        assert explanations.explain(reason).remedy in quarantine
    shown = [title for section, title in page.images if section == "quarantine"]
    assert len(shown) == 1
    assert shown[0].endswith("cut.jpg\n60 × 60 px, decoded in part")
    assert quarantine.count("no picture") == 2


def test_contradictions_and_copies_stand_side_by_side_with_their_classes(run):
    copies = run.page().of("copies")
    contradiction = copies.split("Copies that were dropped")[0]
    assert "1 picture is in the data under more than one class" in contradiction
    assert re.search(r"same\.png cat .*dog\.png dog", contradiction)
    assert re.search(r"same\.png cat dropped .*cat/0\.png cat kept equal pixels", copies)
    assert re.search(r"gone\.png dog kept looks alike: 3 of 64 bits differ", copies)
    kept = copies.split("Pairs that were kept")[1]
    # Those of different classes come first.
    assert kept.index("4 of 64 bits") < kept.index("1 of 64 bits")
    assert re.search(r"cat test .*dog train", kept)


def test_distributions_and_colours_are_drawn_for_each_split(run):
    page = run.page()
    assert "Brightness mean of the luma, 0 to 255" in page.of("distributions")
    assert "train 123 0 8 240 eval 123" in page.of("distributions")
    assert page.html.count('<path class="line') == 2
    assert page.html.count('class="swatch" style="background:rgb(100,101,102)"') == 2
    assert "102.0 ± 102.0" in page.of("colour")


def test_anomalies_stand_by_severity_with_what_to_do(run):
    anomalies = run.page().of("anomalies")
    order = [anomalies.index(word) for word in ("leakage", "imbalance", "drift")]
    assert order == sorted(order)
    assert "severe train leakage what leakage <found>" in anomalies
    assert "To run nevertheless: --waive train:leakage" in anomalies
    assert explanations.advise("imbalance") in anomalies
    assert "waived train drift" in anomalies
    assert anomalies.count("--waive") == 1


def test_a_page_needs_no_network_and_runs_nothing_whatever_files_are_called(run):
    page = run.page()
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    assert page.links
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not re.search(r"url\(|@import|https?:", page.html)
    assert "default-src 'none'" in page.html
    # What cannot be printed is named, and nothing changes the direction of writing.
    assert r"caf\xe9" in page.html
    assert r"innocent\u202egpj.exe" in page.html
    assert "\u202e" not in page.html


def test_equal_data_give_equal_bytes(run, tmp_path):
    first = data_report.write(run.root)
    assert first == run.root / "data-report.html"
    again = data_report.write(run.root, tmp_path / "elsewhere" / "page.html")
    assert again == tmp_path / "elsewhere" / "page.html"
    assert first.read_bytes() == again.read_bytes()


def test_pictures_come_from_where_the_caller_says_each_once(run):
    asked = []

    def fetch(name):
        asked.append(name)
        return builders.encode(builders.noise(5))

    page = run.page(fetch=fetch)
    assert len(asked) == len(set(asked)) == 7
    assert "no picture" not in page.text
    page = run.page(fetch=lambda name: None)
    assert {section for section, _ in page.images} == {"pictures"}


def test_a_source_that_cannot_be_reached_is_said_once(run):
    def fetch(name):
        raise DataError("gs://bucket: no <network>")

    page = run.page(fetch=fetch)
    assert page.html.count("gs://bucket: no &lt;network&gt;") == 1
    assert {section for section, _ in page.images} == {"pictures"}


def test_what_killed_its_reader_is_not_opened(tmp_path):
    run = Run(tmp_path / "pets")
    run.examples(
        {"train": [runs.example(0, 0, "cat")]},
        ("cat",),
        quarantine=[_bad("deadly.png", "killed_its_reader")],
    )

    def fetch(name):
        pytest.fail(f"{name} was opened")

    assert "deadly.png" in run.page(fetch=fetch).of("quarantine")


def test_what_is_not_there_is_said_to_be_not_there(tmp_path):
    run = Run(tmp_path / "pets")
    run.examples({"train": [runs.example(0, 0, "cat")], "test": []}, ("cat", "dog"))
    page = run.page()
    for section in ("account", "anomalies", "quarantine", "copies", "distributions", "colour"):
        assert "Not there:" in page.of(section)
    assert "cat 1 0" in page.of("classes")
    assert "10 × 12 px" in page.of("distributions")  # known from the records themselves


def test_a_good_run_has_nothing_to_complain_of(tmp_path):
    run = Run(tmp_path / "pets")
    run.examples(
        {"train": [runs.example(0, 0, "cat")]}, ("cat",), quarantine=[], duplicates=[], overlaps=[]
    )
    run.statistics(train={8: 1})
    run.validated([])
    page = run.page()
    assert "None: the data are as the schema wants them." in page.of("anomalies")
    assert "Empty: every image could be used." in page.of("quarantine")
    assert page.of("copies").count("None.") == 3


def test_statistics_of_older_images_are_not_shown(run):
    run.examples({"train": [runs.example(70, 0, "new")]}, ("new",), refusal="too many <bad> images")
    page = run.page()
    assert "Not there:" in page.of("distributions")
    assert "Not there:" in page.of("anomalies")
    assert "cat" not in page.of("classes")
    assert "ExampleGen stopped the run. too many <bad> images" in page.of("")


def test_the_page_is_about_what_the_last_run_used_and_says_which_span_that_is(tmp_path):
    run, made = Run(tmp_path / "pets"), {}
    for span, text in ((1, "cat"), (2, "dog")):
        run.examples({"train": [runs.example(span, 0, text)]}, (text,), span=span)
        run.statistics(train={8 * span: 1})
        run.validated([])
        made[span] = dict(run.made)
    assert f"source {run.root} , span 2" in run.page().of("")
    for execution in made[1].values():
        run.store.use(execution)
    page = run.page()
    assert f"source {run.root} , span 1" in page.of("")
    assert "cat 1" in page.of("classes")
    assert "None: the data are" in page.of("anomalies")
    # The last run went on to the statistics of the other span, and no further.
    run.store.use(made[2]["ExampleGen"])
    run.store.use(made[2]["StatisticsGen"])
    assert gather.gather(run.root).executions == tuple(made[2].values())


def test_of_two_validations_of_the_same_statistics_that_of_the_last_run_is_shown(run):
    strict = run.made["ExampleValidator"]
    run.validated([])
    assert "None: the data are" in run.page().of("anomalies")
    run.store.use(strict)
    assert "train leakage" in run.page().of("anomalies")


def test_what_has_no_spans_has_none_in_the_head(tmp_path):
    run = Run(tmp_path / "pets")
    run.examples({"train": [runs.example(0, 0, "cat")]}, ("cat",), span=0)
    assert f"source {run.root} ExampleGen" in run.page().of("")


def test_classes_and_images_without_end_stay_readable(tmp_path):
    classes = [f"class {number:04}" for number in range(1200)]
    run = Run(tmp_path / "many")
    run.examples(
        {"train": [runs.example(i, i, text, (2, 2)) for i, text in enumerate(classes)]},
        classes,
        account={
            "all": _fate(13200, 1200, 12000),
            "classes": {text: _fate(11, 1, 10) for text in classes},
        },
        quarantine=[
            _bad(f"lost/{number}.png", "empty", classes[number // 10]) for number in range(12000)
        ],
        overlaps=[
            {
                "kind": "exact",
                "name": f"{number}.png",
                "class": "class 0000",
                "split": "train",
                "other": "0.png",
                "other_class": "class 0000",
                "other_split": "train",
                "distance": 0,
            }
            for number in range(1, 5000)
        ],
        duplicates=[],
    )
    page = run.page()
    assert "and 11,976 more in quarantine.jsonl" in page.of("quarantine")
    assert "1,000 more classes" in page.of("classes")
    assert "and 160 more classes in account.json" in page.of("classes")
    assert "and 1,140 more classes" in page.of("pictures")
    assert "and 4,975 more in overlaps.jsonl" in page.of("copies")
    assert len(page.html) < 2_000_000
    assert page.tags.count("img") == 60


def test_images_without_a_class_have_a_row(tmp_path):
    run = Run(tmp_path / "pets")
    account = {"all": _fate(3, 1, 2), "classes": {"cat": _fate(1, 1), "": _fate(2, 0, 2)}}
    run.examples(
        {"train": [runs.example(0, 0, "cat")]},
        ("cat",),
        account=account,
        quarantine=[_bad(f"{number}.png", "no_label", "") for number in range(2)],
    )
    page = run.page()
    assert "no class 0 2 0 2" in page.of("classes")
    assert "the smallest 1." in page.of("classes")
    assert "0.png no class no picture 1.png no class" in page.of("quarantine")


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no images were ingested there"):
        data_report.write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["quarantine.jsonl", "account.json", "overlaps.jsonl"])
def test_a_damaged_file_is_named(run, name):
    path = gather.gather(run.root).examples / name
    path.write_text('{"name"')
    with pytest.raises(DataError, match=rf"{name}: not JSON"):
        data_report.write(run.root)


def test_a_damaged_shard_is_named(run):
    (shard,) = (gather.gather(run.root).examples / "Split-train").iterdir()
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(DataError, match=re.escape(str(shard))):
        data_report.write(run.root)


REASONS = [
    *("empty", "too_many_bytes", "not_an_image", "format_tiff", "too_many_pixels", "too_long"),
    *("damaged", "not_decodable_by_tensorflow", "conflicting_labels", "unreadable", "no_label"),
    *("no_path", "unknown_split", "not_json", "malformed_row", "not_an_example", "no_image"),
    *("shard_damaged", "killed_its_reader"),
]


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_is_explained(code):
    found = explanations.explain(code)
    assert found != explanations.explain("never heard of it")
    assert found.meaning.endswith(".")
    assert found.remedy.endswith(".")


def test_text_stays_as_it_is_where_it_can_be_read():
    assert page.readable("größe 日本 🐈.png") == "größe 日本 🐈.png"
    assert page.readable("a\nb\x00\udcff\u200b\ud800") == r"a\nb\x00\xff\u200b\ud800"


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 3, "33.3 %"),
        (1, 100_000, "< 0.1 %"),
        (99_999, 100_000, "> 99.9 %"),
    ],
)
def test_a_share_never_hides_a_rest(part, whole, expected):
    assert page.percent(part, whole) == expected


@pytest.mark.slow
def test_the_page_of_a_real_run(tmp_path):
    from pipeline import config
    from pipeline.orchestration import graph, runner, view

    source = builders.image_folder(tmp_path / "pets", images=30)
    shutil.copy(source / "cat" / "000.png", source / "dog" / "copy.png")
    shutil.copy(source / "cat" / "001.png", source / "cat" / "copy.png")
    (source / "dog" / HOSTILE.replace("/", "_")).write_bytes(b"nothing")
    values = {"name": "pets", "example_gen.source": str(source), "root": str(tmp_path / "runs")}
    chosen = config.load("digits", ("example_gen.max_bad_fraction=0.2",), values)
    wanted = ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator")
    nodes = [node for node in graph.build(chosen) if node.name in wanted]
    root = Path(chosen.root) / "pets"
    # Whether the validator lets it pass is its own affair.
    with contextlib.suppress(PipelineError):
        runner.execute(nodes, "pets", root, view.Silent())
    page = Page(data_report.write(root).read_text())
    assert "Not there" not in page.text
    assert "63 images seen = 59 written" in page.of("account")
    assert "3 quarantined" in page.of("account")
    assert "1 picture is in the data under more than one class" in page.of("copies")
    for title in ("10 × 12 px", "Stored size", "Brightness", "Contrast", "Sharpness"):
        assert title in page.of("distributions")
    assert "png (59)" in page.of("distributions")
    assert page.html.count('class="swatch"') == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (True, "yes"),
        ([], "none"),
        (["a", 1500], "a, 1,500"),
        ({"p50": 2.345, "p99": 4}, "p50 2.35, p99 4"),
        ({"1": {"p50": 2.3}, "8": {"p50": 9, "ok": False}}, "1: p50 2.3; 8: p50 9, ok no"),
    ],
)
def test_values_of_files_are_told_in_words(value, expected):
    assert page.told(value) == expected
