import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import sources
from pipeline.errors import UsageError
from tests.pipeline import builders
from tests.pipeline.sources.reading import everything, reasons, references


@pytest.fixture
def root(tmp_path):
    """A folder with pictures and no manifest yet."""
    return builders.image_folder(tmp_path, images=2)


def _open(root, content, name="photos.csv"):
    path = root / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return sources.open_source(str(path))


def test_a_table_names_images_with_class_split_and_group(root):
    source = _open(
        root,
        "path,label,split,group,note\n"
        "cat/000.png,cat,train,camera 7,good\n"
        'cat/001.png, "cat",VAL,,\n'
        "\n"
        f"{root}/dog/000.png,dog,,,\n",
    )
    assert (source.name, source.classes, source.total) == ("photos", ("cat", "dog"), 3)
    assert source.splits == ("train", "eval")
    found = [
        (r.name, r.text, r.split, r.group, encoded == Path(r.name).read_bytes())
        for r, encoded in everything(source)
    ]
    assert found == [
        (f"{root}/cat/000.png", "cat", "train", "camera 7", True),
        (f"{root}/cat/001.png", "cat", "eval", None, True),
        (f"{root}/dog/000.png", "dog", None, None, True),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "uri,class\ncat/000.png,cat\ndog/000.png,dog\n"),
        ("m.csv", "\ufeffImage,Label\r\ncat/000.png,cat\r\ndog/000.png,dog\r\n"),
        ("m.CSV", "file,LABEL\rcat/000.png,cat\rdog/000.png,dog"),
        ("m.tsv", "filename\tlabel\ncat/000.png\tcat\ndog/000.png\tdog\n"),
        (
            "m.jsonl",
            '\ufeff{"path": "cat/000.png", "label": "cat", "more": [1]}\n\n'
            + '{"Class": "x", "label": "dog", "path": "dog/000.png"}\n',
        ),
    ],
)
def test_spellings_of_columns_ends_of_lines_and_forms(root, name, content):
    source = _open(root, content, name)
    assert [(found.name, found.text) for found in references(source)] == [
        (f"{root}/cat/000.png", "cat"),
        (f"{root}/dog/000.png", "dog"),
    ]


def test_classes_that_are_numbers_are_ordered_by_value(root):
    source = _open(root, "path,label\na.png,10\nb.png,9\nc.png,-1\n")
    assert source.classes == ("-1", "9", "10")
    source = _open(root, '{"path": "a", "label": 10}\n{"path": "b", "label": 9}\n', "m.jsonl")
    assert source.classes == ("9", "10")
    assert _open(root, "path,label\na.png,10\nb.png,9\nc.png,x\n").classes == ("10", "9", "x")


def test_one_bad_line_costs_one_line(root):
    content = (
        b"path,label,split\n"
        b"cat/000.png,cat,train\n"
        b"cat/001.png,,train\n"
        b",cat,train\n"
        b"dog/000.png,dog,holdout\n"
        b"dog/001.png,dog\n"
        b'dog/001.png,"dog,train\n'
        b"dog/001.png,d\xe9g,train\n"
        b"missing.png,dog,test\n"
        b"nowhere://bucket/x.png,dog,test\n"
        b"nul\0.png,dog,test\n"
        b"cat,cat,test\n"
        b"dog/001.png,dog,test\n"
    )
    source = _open(root, content)
    assert source.total == 12
    assert reasons(source) == {
        f"{root}/cat/001.png": "no_label",
        f"{root}/photos.csv:4": "no_path",
        f"{root}/dog/000.png": "unknown_split",
        f"{root}/photos.csv:6": "malformed_row",
        f"{root}/photos.csv:7": "malformed_row",
        f"{root}/photos.csv:8": "not_utf8",
        f"{root}/missing.png": "unreadable",
        "nowhere://bucket/x.png": "unknown_scheme",
        f"{root}/nul\0.png": "unreadable",
        f"{root}/cat": "unreadable",  # a folder
    }
    assert source.classes == ("cat", "dog")


def test_a_row_without_a_split_follows_its_group(root):
    source = _open(
        root,
        "path,label,split,group\n"
        "1.png,cat,,a\n2.png,cat,test,a\n3.png,cat,,a\n"
        "4.png,dog,train,b\n5.png,dog,,c\n6.png,dog,,\n"
        # A row that cannot be used puts no group anywhere.
        "7.png,,test,c\n",
    )
    splits = [reference.split for part in source.parts for reference in part]
    assert splits == ["test", "test", "test", "train", None, None, None]
    assert (source.splits, source.notices) == (("train", "test"), ())


def test_groups_that_the_manifest_tears_are_named(root):
    rows = "path,label,split,group\n1.png,cat,train,b\n2.png,cat,test,b\n3.png,dog,,b\n"
    source = _open(root, rows)
    assert [reference.split for reference in source.parts[0]] == ["train", "test", None]
    assert source.notices == (
        f"{root}/photos.csv: 1 group is in several splits by the column 'split', the first is 'b'",
    )
    (notice,) = _open(root, rows + "4.png,dog,val,a\n5.png,dog,test,a\n").notices
    assert "2 groups are in several splits" in notice


def test_lines_that_are_no_objects(root):
    deep = "[" * 100_000
    content = (
        '{"path": "cat/000.png", "label": "cat"}\n'
        '{"path": "dog/000.png", "label": "dog"}\n'
        f"[1]\nnothing\n{deep}\n"
        '{"path": "x.png", "label": true}\n'
        '{"path": ["x.png"], "label": "dog"}\n'
        '{"path": "x.png"}\n'
        '{"path": "\\ud800.png", "label": "dog"}\n'
        f'{{"path": "x.png", "label": {"9" * 5000}}}\n'
    )
    source = _open(root, content, "photos.jsonl")
    at = f"{root}/photos.jsonl:"
    assert reasons(source) == {
        f"{at}3": "not_json",
        f"{at}4": "not_json",
        f"{at}5": "not_json",
        f"{at}6": "malformed_row",
        f"{at}7": "malformed_row",
        f"{root}/x.png": "no_label",
        f"{at}9": "not_utf8",
        f"{at}10": "not_json",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "image;label\n", r"no column 'path' or 'uri' .* found the columns 'image;label'"),
        ("m.csv", "path,category\n", "no column 'label' or 'class'; found the columns 'path', 'c"),
        ("m.csv", "", "found the columns none"),
        ("m.csv", "path,label\n", "found no class; expected at least two in the column 'label'"),
        (
            "m.csv",
            "path,class\na,b\n",
            "found one class, 'b'; expected at least two in the .*class",
        ),
        ("m.jsonl", '{"file": "x"}', "no column 'label'"),
        ("m.jsonl", "[]", "found the columns none"),
        ("m.csv", "path,label\n".encode("utf-16"), "no column 'path'"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(root, name, content, message):
    with pytest.raises(UsageError, match=message) as caught:
        _open(root, content, name)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there_is_named(root):
    with pytest.raises(UsageError, match=r"none.csv': no such file"):
        sources.open_source(str(root / "none.csv"))


def test_a_folder_may_be_called_like_a_manifest(tmp_path):
    builders.image_folder(tmp_path / "photos.csv", images=1)
    assert sources.open_source(str(tmp_path / "photos.csv")).total == 2


def test_the_digest_sees_pictures_and_every_column_and_not_times(root):
    rows = "path,label,split,group\ncat/000.png,cat,train,a\ndog/000.png,dog,test,b\n"
    before = _open(root, rows).digest()
    os.utime(root / "cat" / "000.png", (1, 1))
    assert _open(root, rows).digest() == before
    changed = [
        _open(root, rows.replace(*change)).digest()
        for change in (
            ("png,cat", "png,bird"),
            (",test", ",val"),
            (",b", ",c"),
            ("dog/000", "dog/001"),
        )
    ]
    (root / "cat" / "000.png").write_bytes(b"other")
    changed.append(_open(root, rows).digest())
    (root / "cat" / "000.png").unlink()
    changed.append(_open(root, rows).digest())
    assert len({before, *changed}) == 7


def test_relative_paths_are_relative_to_the_manifest(root, monkeypatch):
    (root / "lists").mkdir()
    monkeypatch.chdir(root)
    Path("lists/m.csv").write_text("path,label\n../cat/000.png,cat\n../dog/000.png,dog\n")
    assert reasons(sources.open_source("lists/m.csv")) == {}
    Path("m.csv").write_text("path,label\ncat/000.png,cat\ndog/000.png,dog\n")
    assert [found.name for found in references(sources.open_source("m.csv"))] == [
        "cat/000.png",
        "dog/000.png",
    ]


def test_lines_without_an_image_are_not_fetched(root):
    source = _open(root, "path,label\ncat/000.png,cat\n,dog\ndog/000.png,dog\n")
    good, line, _ = references(source)
    assert sources.fetch(str(root / "photos.csv"), good.name) == Path(good.name).read_bytes()
    assert sources.fetch(str(root / "photos.csv"), line.name) is None


_COLUMN = st.sampled_from(["path", "label", "split", "group", "PATH ", "", "x"])
_FIELD = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["cat", "dog", "train", "a.png", "tree://", "x://y", '"', "../", "/dev/zero"]),
)
_LINE = st.lists(_FIELD, max_size=5).map(",".join)


def _account(path):
    """Opens and reads a manifest; returns the number of its images, or None where it is refused."""
    try:
        source = sources.open_source(str(path))
    except UsageError as error:
        assert "\n" not in str(error)
        return None
    source.digest()
    return len(everything(source))


@given(content=st.binary(max_size=300), suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_arbitrary_bytes_are_refused_or_read(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"m{suffix}"
    path.write_bytes(content)
    _account(path)


@given(columns=st.lists(_COLUMN, max_size=4), lines=st.lists(_LINE, max_size=8))
def test_arbitrary_tables_keep_every_line(tmp_path_factory, columns, lines):
    path = tmp_path_factory.mktemp("tables") / "m.csv"
    rows = ["path,label", "a,cat", "b,dog", *lines] if not columns else [",".join(columns), *lines]
    content = "\n".join(rows)
    path.write_bytes(content.encode(errors="surrogatepass"))
    total = _account(path)
    if not columns:
        # Carriage returns and line feeds within a field end the line as well.
        ends = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert total == sum(bool(line.strip()) for line in ends) - 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _FIELD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELD, inner, max_size=3),
)
_OBJECT = st.dictionaries(_COLUMN, _JSON, max_size=4)


@given(values=st.lists(_OBJECT | _JSON, max_size=8))
def test_arbitrary_objects_keep_every_line(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("objects") / "m.jsonl"
    start = [{"path": "a", "label": "cat"}, {"path": "b", "label": 2}]
    path.write_text("".join(json.dumps(value) + "\n" for value in (*start, *values)))
    assert _account(path) == len(values) + 2
