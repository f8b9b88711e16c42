"""The page in a browser: photos that are chosen, dropped and pasted, and what a person reads."""

import base64
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.serving import push
from tests.pipeline.reporting import browser
from tests.pipeline.reporting.conftest import chromium
from tests.pipeline.serving.laptop import devtools, running
from tests.pipeline.serving.models import saved_model

__all__ = ["chromium"]

pytestmark = pytest.mark.slow

_READY = "document.querySelectorAll('#model option').length && at('version').options.length > 1"
_ANSWERED = (
    "document.querySelectorAll('.result').length == {} && !document.querySelector('.waiting')"
)


@pytest.fixture(scope="module")
def base(exported, tmp_path_factory):
    """The versions of a model, beside a model that takes no images."""
    folder = tmp_path_factory.mktemp("models")
    base = folder / "served" / "photos"
    push.push(exported, base)
    push.push(running.scaling(folder / "scale", 2.0), folder / "served" / "scale")
    return base


@pytest.fixture(scope="module")
def laptop(base, tmp_path_factory):
    with running.serve(base.parent, tmp_path_factory.mktemp("logs"), "--max-body", "2") as server:
        yield server


@pytest.fixture(scope="module")
def tab(chromium, tmp_path_factory):
    with devtools.page(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(tab, laptop):
    tab.open(f"{laptop.url}/")
    tab.wait(_READY)
    return tab


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A photo, a folder's worth of what is none, and one whose name is a tag."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "sea.jpg")
    Image.fromarray(pixels).save(folder / "<b>&amp;\u202egpj.png")
    (folder / "cut.jpg").write_bytes((folder / "sea.jpg").read_bytes()[:900])
    (folder / "page.html").write_text("<html><script>document.title = 'caught'</script></html>")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "large.jpg").write_bytes(b"\xff\xd8" + bytes(3_000_000))
    return folder


def _result(page, name):
    """Returns the lines of what is shown of a file."""
    found = page.value(
        "[...document.querySelectorAll('.result')].map(item => "
        "[item.querySelector('bdi').textContent, item.innerText])"
    )
    (text,) = [text for own, text in found if own == name]
    return text.splitlines()


def test_a_photo_that_is_chosen_shows_its_classes_as_bars(page, laptop, photos):
    page.choose("#files", [photos / "sea.jpg"])
    page.wait(_ANSWERED.format(1))
    content = (photos / "sea.jpg").read_bytes()
    body = {"instances": [{"b64": base64.b64encode(content).decode()}]}
    (row,) = laptop.predict("photos", body)
    shown = page.value(
        "[...document.querySelectorAll('.classes li')].map(item => ["
        "item.querySelector('.name').textContent, item.querySelector('.share').textContent, "
        "item.querySelector('i').offsetWidth / item.querySelector('.track').offsetWidth])"
    )
    assert [name for name, _, _ in shown] == row["classes"]
    assert [share for _, share, _ in shown] == [f"{100 * score:.1f} %" for score in row["scores"]]
    assert [width for _, _, width in shown] == pytest.approx(row["scores"], abs=0.01)
    best = f"sea.jpg: {row['classes'][0]}, {100 * row['scores'][0]:.1f} %"
    assert page.value("at('said').textContent") == best
    assert page.value("document.querySelector('.thumb img').naturalWidth") == 80
    assert page.value("document.querySelector('.thumb img').alt") == "sea.jpg"
    assert page.complaints() == []


def test_files_that_are_dropped_say_in_words_what_is_wrong_with_them(page, photos):
    names = sorted(path.name for path in photos.iterdir())
    page.drop(400, 300, [photos / name for name in names])
    page.wait(_ANSWERED.format(len(names)))
    for name, said in (
        ("cut.jpg", "The picture is damaged."),
        ("page.html", "This is no picture that can be read."),
        ("empty.jpg", "The file is empty."),
        ("large.jpg", "The file is too large for this server."),
    ):
        assert said in _result(page, name)
    assert any("(not_an_image)" in line for line in _result(page, "page.html"))
    assert "%" in _result(page, "<b>&amp;\u202egpj.png")[-1]
    assert page.value("document.title") == "What the model sees"
    assert page.complaints() == []


def test_a_picture_that_is_pasted_is_asked_about(page):
    page.value(
        """new Promise(resolve => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 9, height: 7 });
          canvas.toBlob(blob => {
            const data = new DataTransfer();
            data.items.add(new File([blob], "image.png", { type: "image/png" }));
            dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
            resolve();
          });
        })"""
    )
    page.wait(_ANSWERED.format(1))
    assert "%" in _result(page, "image.png")[-1]


def test_versions_and_labels_are_chosen_and_asked_again(page, exported, base, tmp_path, photos):
    page.choose("#files", [photos / "sea.jpg"])
    page.wait(_ANSWERED.format(1))
    options = "[...at('version').options].map(option => option.textContent)"
    assert page.value(options) == ["newest (version 1)", "stable (version 1)", "version 1"]
    before = page.value("document.querySelector('.classes').innerText")
    other = shutil.copytree(exported, tmp_path / "other")
    (other / "assets" / "classes.txt").write_text("eins\nzwei\ndrei\n")
    push.push(other, base, label="canary")
    page.wait(f"{options}.includes('canary (version 2)')")

    def choose(place):
        page.value(f"at('version').selectedIndex = {place}; at('version').onchange()")
        page.wait(_ANSWERED.format(1))
        return page.value("document.querySelector('.about').textContent")

    shown = page.value(options)
    assert "version 2" in choose(shown.index("canary (version 2)"))
    names = page.value("[...document.querySelectorAll('.name')].map(name => name.textContent)")
    assert sorted(names) == ["drei", "eins", "zwei"]
    assert "version 1" in choose(shown.index("stable (version 1)"))
    assert page.value("document.querySelector('.classes').innerText") == before
    page.value("at('model').value = 'scale'; at('model').onchange()")
    assert "does not take image files" in page.value("at('notice').textContent")
    page.value("at('clear').click()")
    assert page.value("document.querySelectorAll('.result').length") == 0


def test_a_version_that_cannot_be_loaded_is_told(page, base, tmp_path):
    push.push(saved_model(tmp_path / "damaged"), base, label="canary")
    page.wait("at('notice').textContent.includes('cannot be loaded')")
    push.rollback(base, 1)
    page.wait("!at('notice').textContent")


def test_a_server_that_has_ended_is_told(page, laptop, photos):
    page.value("window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.choose("#files", [photos / "sea.jpg"])
    page.wait(_ANSWERED.format(1))
    assert "The server does not answer. Perhaps it has been stopped." in _result(page, "sea.jpg")
    page.wait("at('notice').textContent.includes('does not answer')")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1000])
def test_everything_can_be_read_at_any_width(tab, laptop, photos, width, dark):
    tab.open(f"{laptop.url}/", width, dark=dark)
    tab.wait(_READY)
    tab.choose("#files", sorted(photos.iterdir()))
    tab.wait(_ANSWERED.format(6))
    tab.value(browser.SCRIPT + "0")
    found = tab.value("measure({ contentDocument: document, contentWindow: window })")
    assert found["width"] <= found["window"]
    assert found["texts"] > 30
    assert not found["faint"]
    assert (found["paper"] < 0.1) == dark


def test_it_is_used_by_keyboard_and_read_aloud(page, photos):
    page.choose("#files", [photos / "sea.jpg", photos / "cut.jpg"])
    page.wait(_ANSWERED.format(2))
    page.value("document.activeElement.blur()")
    reached = []
    for _ in range(5):
        page.press("Tab", 9)
        reached.append(page.value("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["model", "version", "files", "clear", "SUMMARY"]
    page.value("at('files').focus({ focusVisible: true })")
    outline = "getComputedStyle(document.querySelector('.drop')).outlineStyle"
    assert page.value(outline) == "solid"
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node}
    assert ("combobox", "Model") in named
    assert ("combobox", "Version") in named
    assert ("image", "sea.jpg") in named
    assert any(role == "button" and "Drop photos here" in name for role, name in named)
    roles = {node["role"]["value"] for node in nodes}
    assert {"status", "heading", "list", "main"} <= roles


def test_nothing_comes_from_elsewhere(laptop):
    found = laptop.ask("/")
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in policy
    text = found.content.decode()
    assert 'src="http' not in text
    assert json.dumps("//")[1:-1] not in text.split("<script>")[0]
