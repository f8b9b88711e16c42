"""Downloads from a hub on this machine: whole and verified, or one error that says what to do."""

import hashlib
import re
import resource
import threading

import numpy as np
import pytest

from keras_resnet.weights import DownloadError, download, fetch, find_record
from keras_resnet.weights.download import cache_folder, fetch_file
from tests.keras_resnet.weights.server import running_hub

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
RECORD = find_record("timm/resnet18.a1_in1k")
PATH = "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"


def digest_of(content, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setattr(download, "_CHUNK", 1 << 14)


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as hub:
        hub.files[PATH] = CONTENT
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def target():
    return cache_folder() / RECORD.file


def files_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_the_cache_is_the_one_of_keras(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "models"
    monkeypatch.delenv("KERAS_HOME")
    assert cache_folder().parts[-2:] == (".keras", "models")


def test_downloaded_once_verified_and_used_without_a_network(hub, target, capsys):
    assert fetch(RECORD) == target
    assert target.read_bytes() == CONTENT
    assert files_in(target.parent) == [target.name, f"{target.name}.sha256"]
    printed = capsys.readouterr().err
    assert "resnet18.a1_in1k.safetensors: 100 % of 0.3 MB" in printed
    hub.files.clear()
    assert fetch(RECORD) == target
    assert len(hub.requests) == 1
    assert capsys.readouterr().err == ""


def test_without_a_network_one_error_says_which_file_to_put_where(hub, target, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    url = f"http://127.0.0.1:9{PATH}"
    with pytest.raises(DownloadError, match=re.escape(f"{url} by other means")) as error:
        fetch(RECORD)
    assert f"put it there as {target}" in str(error.value)
    assert "refused" in str(error.value)
    # A file that was put there is taken as it is.
    target.write_bytes(CONTENT)
    assert fetch(RECORD) == target


def test_a_dropped_connection_goes_on_where_it_stopped(hub, target):
    hub.drops = [100_000, 50_000]
    fetch(RECORD)
    assert target.read_bytes() == CONTENT
    ranges = [wanted for _, wanted in hub.requests]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_process_goes_on_where_it_stopped(hub, target):
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(CONTENT[:200_000])
    fetch(RECORD)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in hub.requests] == ["bytes=200000-"]


@pytest.mark.parametrize("size", [300_000, 300_001])
def test_a_part_that_has_everything_already(hub, target, size):
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes((CONTENT + b"?")[:size])
    fetch(RECORD)
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_all_of_it(hub, target):
    hub.drops, hub.ignores_ranges = [100_000], True
    fetch(RECORD)
    assert target.read_bytes() == CONTENT


def test_the_beginning_of_another_version_is_not_kept(hub, target):
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(OTHER[:200_000])
    fetch(RECORD)
    assert target.read_bytes() == CONTENT


def test_without_any_digest_nothing_is_resumed(hub, tmp_path):
    hub.states_digest = False
    path = tmp_path / "file.h5"
    path.with_name("file.h5.part").write_bytes(OTHER[:200_000])
    fetch_file(f"{hub.url}{PATH}", path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_digest_leaves_nothing(hub, tmp_path, algorithm, resumed):
    folder = tmp_path / "cache"
    folder.mkdir()
    if resumed:
        (folder / "file.h5.part").write_bytes(CONTENT[:1000])
    wrong = digest_of(OTHER, algorithm)
    with pytest.raises(DownloadError, match=f"its digest is not {wrong}"):
        fetch_file(f"{hub.url}{PATH}", folder / "file.h5", wrong)
    assert files_in(folder) == []


def test_a_damaged_file_of_the_cache_is_replaced(hub, target):
    fetch(RECORD)
    target.write_bytes(CONTENT[:-1])
    fetch(RECORD)
    assert target.read_bytes() == CONTENT
    # One with a stated digest, too.
    fetch_file(f"{hub.url}{PATH}", target.with_name("a.h5"), digest_of(CONTENT, "md5"))
    target.with_name("a.h5").write_bytes(b"\0" + CONTENT[1:])
    fetch_file(f"{hub.url}{PATH}", target.with_name("a.h5"), digest_of(CONTENT, "md5"))
    assert target.with_name("a.h5").read_bytes() == CONTENT


def test_a_file_that_stays_truncated_is_no_file(hub, target):
    hub.drops = [250_000] + [0] * 10
    with pytest.raises(DownloadError, match="the connection was dropped"):
        fetch(RECORD)
    assert not target.exists()
    # What came is kept for the next time.
    hub.drops = []
    fetch(RECORD)
    assert target.read_bytes() == CONTENT
    assert hub.requests[-1][1] == "bytes=250000-"


def test_a_full_disk_leaves_nothing(hub, target):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DownloadError, match=f"too large.*put it there as {target}"):
            fetch(RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(target.parent) == []
    assert fetch(RECORD).read_bytes() == CONTENT


def test_a_server_in_trouble_is_asked_again(hub, target):
    hub.statuses = [503, 500]
    fetch(RECORD)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "times"), [(403, 1), (503, 4)])
def test_a_server_that_refuses(hub, target, status, times):
    hub.statuses = [status] * 10
    with pytest.raises(DownloadError, match=f"the server answered {status}"):
        fetch(RECORD)
    assert len(hub.requests) == times
    assert files_in(target.parent) == []


@pytest.mark.parametrize("said", [None, "bytes x-y/z", "bytes -5/7", ""])
def test_a_part_whose_place_is_not_told_is_not_used(hub, target, said):
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(CONTENT[:1000])
    hub.headers = {"Content-Range": said}
    with pytest.raises(DownloadError, match="a part was sent whose place is not told"):
        fetch(RECORD)
    hub.headers = {}
    assert fetch(RECORD).read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["abc", "-3", None])
def test_a_length_that_is_none_is_not_believed(hub, length):
    hub.headers = {"Content-Length": length}
    assert fetch(RECORD).read_bytes() == CONTENT


def test_a_page_is_no_file(hub, target):
    """What a portal answers to everything."""
    hub.states_digest = False
    hub.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match="answered with a page and not with a file"):
        fetch(RECORD)
    assert files_in(target.parent) == []


@pytest.mark.parametrize("kept", [b"", b"\xff\xfe", b"no digest"])
def test_a_damaged_note_of_the_digest_is_none(hub, target, kept):
    fetch(RECORD)
    target.with_name(f"{target.name}.sha256").write_bytes(kept)
    assert fetch(RECORD).read_bytes() == CONTENT


def test_an_empty_name_of_a_mirror_is_none(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert download._address("timm/file") == "https://huggingface.co/timm/file"


def test_a_missing_file(hub):
    hub.files.clear()
    with pytest.raises(DownloadError, match="the server answered 404"):
        fetch(RECORD)


@pytest.mark.parametrize("location", ["http://example.com/file", "file:///etc/hostname"])
def test_only_encrypted_addresses_are_followed(hub, location):
    hub.location = location
    with pytest.raises(DownloadError, match=f"only https is trusted, and it leads to {location}"):
        fetch(RECORD)


@pytest.mark.parametrize("url", ["http://example.com/a", "ftp://127.0.0.1/a", "file:///etc/hosts"])
def test_only_encrypted_addresses_are_asked(url, tmp_path):
    with pytest.raises(DownloadError, match="only https is trusted"):
        fetch_file(url, tmp_path / "file")


def test_a_redirection_to_what_is_no_address(hub):
    hub.location = "http://[::1"
    with pytest.raises(DownloadError, match="which is no address"):
        fetch(RECORD)


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(DownloadError, match="which is no address"):
        fetch_file("https://[::1/file", tmp_path / "file")


def test_a_ring_of_redirections_ends(hub):
    hub.location = PATH
    with pytest.raises(DownloadError, match="more than 10 redirections"):
        fetch(RECORD)


def test_a_folder_that_cannot_be_written(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="give its path as `weights`"):
        fetch(RECORD)


@pytest.mark.soak
def test_of_several_at_once_one_downloads(hub, target, round_):
    hub.drops = [100_000]
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(RECORD))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [target] * 6
    assert target.read_bytes() == CONTENT
    assert len(hub.requests) == 2
