import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import sources
from pipeline.errors import DataError, UsageError
from pipeline.records import tfrecord
from pipeline.sources import uris
from tests.pipeline import builders
from tests.pipeline.sources import tree
from tests.pipeline.sources.reading import everything, reasons
from tests.pipeline.sources.test_tfrecords import example


@pytest.fixture
def broken(monkeypatch):
    """Returns a function that breaks the network for files of some names."""
    return lambda *names: monkeypatch.setattr(tree.TreeFileSystem, "broken", frozenset(names))


def _same(remote, local):
    """Whether two sources hold the same images, whose names differ by the scheme."""
    there, here = everything(remote), everything(local)
    assert [(r.name.removeprefix("tree://"), r.text, r.split, r.bad, b) for r, b in there] == [
        (r.name, r.text, r.split, r.bad, b) for r, b in here
    ]
    assert (remote.name, remote.classes, remote.splits) == (local.name, local.classes, local.splits)


# Beam's translation of an escaped "[".
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_a_folder_behind_a_uri_is_read_like_one_here(tmp_path):
    root = tmp_path / "some [strange] folder?"
    builders.image_folder(root / "train", images=70)
    builders.image_folder(root / "test", images=2)
    (root / "test" / "cat" / ".hidden.png").write_bytes(b"")
    for data in (tree.uri(root), tree.uri(root) + "/"):
        _same(sources.open_source(data), sources.open_source(str(root)))


def test_a_manifest_and_its_images_may_be_anywhere(tmp_path):
    builders.image_folder(tmp_path, images=2)
    (tmp_path / "m.csv").write_text(
        f"path,label\ncat/000.png,cat\n{tree.uri(tmp_path / 'dog' / '000.png')},dog\n"
        f"{tmp_path}/dog/001.png,dog\ntree://{tmp_path}/missing.png,dog\n"
    )
    expected = {f"tree://{tmp_path}/missing.png": "unreadable"}
    for data in (str(tmp_path / "m.csv"), tree.uri(tmp_path / "m.csv")):
        source = sources.open_source(data)
        assert reasons(source) == expected
        assert [encoded for _, encoded in everything(source)][:3] == [
            (tmp_path / name).read_bytes() for name in ("cat/000.png", "dog/000.png", "dog/001.png")
        ]


def test_records_behind_a_uri_are_read_like_those_here(tmp_path):
    for split in ("train", "test"):
        payloads = [example(index, "cat" if index % 2 else "dog") for index in range(300)]
        tfrecord.write(tmp_path / f"{split}-00000-of-00001", payloads)
    for path in ("", "/train-00000-of-00001", "/t*-of-00001"):
        _same(
            sources.open_source(tree.uri(tmp_path) + path), sources.open_source(f"{tmp_path}{path}")
        )


def test_the_digest_sees_contents(tmp_path):
    builders.image_folder(tmp_path, images=2)
    before = sources.open_source(tree.uri(tmp_path)).digest()
    assert sources.open_source(tree.uri(tmp_path)).digest() == before
    (tmp_path / "cat" / "000.png").write_bytes(b"other")
    assert sources.open_source(tree.uri(tmp_path)).digest() != before


def test_a_network_that_fails_is_no_bad_image(tmp_path, broken):
    builders.image_folder(tmp_path, images=2)
    source = sources.open_source(tree.uri(tmp_path))
    broken("000.png")
    for work in (lambda: everything(source), source.digest):
        with pytest.raises(
            DataError, match=r"000.png: cannot be read: RuntimeError: the line is d"
        ):
            work()


def test_an_image_is_fetched_by_its_uri(tmp_path):
    builders.image_folder(tmp_path, images=1)
    data = tree.uri(tmp_path)
    picture = (tmp_path / "cat" / "000.png").read_bytes()
    assert sources.fetch(data, f"{data}/cat/000.png") == picture
    assert sources.fetch(data, f"{data}/cat/001.png") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere://bucket/photos", "Apache Beam has no file system for nowhere://"),
        ("nowhere://bucket/m.csv", "nowhere://"),
        ("nowhere://bucket/{SPAN}", "nowhere://"),
        ("nowhere://bucket/*.tfrecord", "nowhere://"),
        ("azfs://account/photos", r"azfs:// cannot be read; install apache-beam\[azure\]"),
        ("tree:///nothing/here", "no such folder or file"),
        ("tree:///nothing/here.csv", "no such file"),
        ("tree:///nothing/*.tfrecord", "no file matches this pattern"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(data, message):
    with pytest.raises(UsageError, match=message) as caught:
        sources.open_source(data)
    assert "\n" not in str(caught.value)


def test_rows_of_a_scheme_that_lacks_a_package_cost_themselves_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(uris, "_is_installed", lambda library: False)
    builders.image_folder(tmp_path, images=1)
    path = tmp_path / "m.csv"
    path.write_text("path,label\ngs://bucket/a.png,dog\ncat/000.png,cat\ngs://bucket/b.png,dog\n")
    source = sources.open_source(str(path))
    assert reasons(source) == dict.fromkeys(
        ("gs://bucket/a.png", "gs://bucket/b.png"), "unknown_scheme"
    )
    assert source.notices == (
        f"{path}: gs:// cannot be read; install apache-beam[gcp]; its rows go to quarantine",
    )
    path.write_text("path,label\ngs://bucket/a.png,dog\n,cat\ngs://bucket/c.png,cat\n")
    with pytest.raises(UsageError, match=r"no row can be read: .*; install apache-beam\[gcp\]$"):
        sources.open_source(str(path))


def test_uris_of_files_are_paths(tmp_path):
    root = builders.image_folder(tmp_path / "my [photos] 100%", images=1)
    for data in (f"file://{root}", f"FILE://localhost{root}", root.as_uri()):
        _same(sources.open_source(data), sources.open_source(str(root)))
    (tmp_path / "m.csv").write_text(
        f"path,label\n{root.as_uri()}/cat/000.png,cat\nfile://{root}/dog/000.png,dog\n"
        "file://elsewhere/x.png,dog\n"
    )
    found = everything(sources.open_source(f"file://{tmp_path}/m.csv"))
    assert [(reference.name, encoded) for reference, encoded in found[:2]] == [
        (str(path), path.read_bytes()) for path in (root / "cat/000.png", root / "dog/000.png")
    ]
    # Of another machine.
    assert found[2][0].name == "file://elsewhere/x.png"
    assert found[2][0].bad == "unknown_scheme"


def test_what_lies_here_is_read_without_beam_tfds_and_tensorflow(tmp_path):
    builders.image_folder(tmp_path / "photos", images=1)
    (tmp_path / "m.csv").write_text("path,label\nphotos/cat/000.png,cat\nphotos/dog/000.png,dog\n")
    tfrecord.write(tmp_path / "a.tfrecord", [example(0, "cat"), example(1, "dog")])
    script = (
        "import sys\n"
        "from pipeline import sources\n"
        "for data in sys.argv[1:]:\n"
        "    source = sources.open_source(data)\n"
        "    source.digest()\n"
        "    assert [pair for part in source.parts for pair in source.read(part)]\n"
        "heavy = {'apache_beam', 'tensorflow', 'tensorflow_datasets', 'keras'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    data = ["digits", *(str(tmp_path / name) for name in ("photos", "m.csv", "a.tfrecord"))]
    subprocess.run([sys.executable, "-c", script, *data], check=True)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("runs", "runs"),
        ("/mnt/a: b/runs", "/mnt/a: b/runs"),
        ("C:/runs", "C:/runs"),
        ("a:b", "a:b"),
        ("file:///mnt/some%20runs", "/mnt/some runs"),
        (Path("runs/x"), "runs/x"),
    ],
)
def test_what_has_to_be_on_this_machine_may_be(given, path):
    assert uris.require_local(given) == Path(path)


# Who made a path of it has taken one of the slashes away.
@pytest.mark.parametrize("given", ["gs://b/runs", Path("gs://b/runs"), "hdfs://b", "s3:///x"])
def test_what_has_to_be_on_this_machine_is_no_uri(given):
    scheme = str(given).partition(":")[0]
    with pytest.raises(UsageError, match=rf"^{scheme}://.*: is no path of this machine.*NFS"):
        uris.require_local(given)


@pytest.mark.parametrize("host", ["gs", "s3"])
def test_a_file_uri_of_another_machine_is_none_of_this_one(host):
    with pytest.raises(UsageError, match="is no path of this machine"):
        uris.require_local(f"file://{host}/data")
    assert uris.require_local("file://localhost/data") == Path("/data")


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("data/photos", "data/photos"),
        ("data/*/train-*", "data"),
        ("/data/a-*/b", "/data"),
        ("*.tfrecord", "."),
        ("gs://b/x-*", None),
    ],
)
def test_the_folder_that_all_lies_in_has_no_wildcards(path, plain):
    assert uris.plain(path) == (None if plain is None else Path(plain))


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ESTALE, DataError), (errno.EIO, DataError), (errno.EACCES, None)]
)
def test_a_file_system_that_fails_says_nothing_of_the_image(tmp_path, monkeypatch, number, kind):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(kind or uris.BadFileError, match="its file system" if kind else "unread"):
        uris.read(str(path))
