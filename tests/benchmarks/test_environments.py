"""Environments of peers: made once, beside what is installed, and gone when they cannot be made."""

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.plan import Environment, Side


def wheel(folder, name="a_peer"):
    """Makes a package of one module that can be installed without a network."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    contents = {
        f"{name}.py": "import numpy\nVALUE = 5\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in contents.items()] + [
        f"{info}/RECORD,,"
    ]
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for inside, text in {**contents, f"{info}/RECORD": "\n".join(lines)}.items():
            file.writestr(inside, text)
    return path


def _digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_the_cache_is_where_the_system_wants_it():
    assert environments.cache({"XDG_CACHE_HOME": "/caches"}) == Path(
        "/caches/keras_resnet/benchmarks"
    )
    assert environments.cache({}) == Path.home() / ".cache" / "keras_resnet" / "benchmarks"


@pytest.mark.slow
def test_an_environment_is_made_once_and_sees_what_is_installed(tmp_path):
    links = wheel(tmp_path / "wheels").parent
    peer = Environment("peer", ("a-peer==1.0",), pip=("--no-index", "--find-links", str(links)))
    side = Side("peer", "module:Peer", needs=("a_peer",), environment=peer)
    told = []
    python = environments.interpreter(side, 0, tmp_path / "cache", told.append)
    said = subprocess.run(
        [str(python), "-c", "import a_peer, numpy; print(a_peer.VALUE)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout == "5\n", said.stderr
    assert len(told) == 1
    assert "installing a-peer==1.0" in told[0]

    assert environments.interpreter(side, 0, tmp_path / "cache", told.append) == python
    assert len(told) == 1

    # A folder that was left half made is made anew, and one that cannot be is left nowhere.
    (python.parents[1] / "ready.json").unlink()
    (links / "a_peer-1.0-py3-none-any.whl").unlink()
    with pytest.raises(environments.UnavailableError, match=r"cannot be installed: ERROR.*a-peer"):
        environments.interpreter(side, 0, tmp_path / "cache")
    assert not python.parents[1].exists()
