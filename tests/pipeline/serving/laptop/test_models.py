"""Versions and labels that come and go on the disk, and what a request then finds."""

import asyncio
import contextlib
import threading
from typing import ClassVar

import pytest

from pipeline.errors import UsageError
from pipeline.serving import labels, push
from pipeline.serving.laptop import models
from pipeline.serving.laptop.limits import RefusedError
from pipeline.serving.laptop.loading import NOT_FOUND, LoadError
from pipeline.serving.laptop.models import AVAILABLE, END, Repository
from tests.pipeline.serving.models import saved_model

_PATIENCE = 60.0


class Fake:
    """Stands for a version that has been loaded."""

    loading = threading.Event()
    damaged = b"damaged"
    closed: ClassVar[list[int]] = []

    def __init__(self, path, stopping):
        assert self.loading.wait(_PATIENCE)
        if (path / "saved_model.pb").read_bytes() == self.damaged:
            raise LoadError(NOT_FOUND, f"{path} is damaged")
        self.path = path
        self.signatures = {"serving_default": None}

    def run(self, signature, inputs):
        return inputs

    def close(self):
        self.closed.append(int(self.path.name))


@pytest.fixture
def fake(monkeypatch):
    """No version is really loaded, and the disk is looked at all the time."""
    monkeypatch.setattr(models, "Loaded", Fake)
    monkeypatch.setattr(models, "_INTERVAL", 0.01)
    Fake.loading.set()
    Fake.closed = []
    return Fake


def _push(tmp_path, content, name="m", **options):
    model = saved_model(tmp_path / "made" / content.decode(), content, parts=1)
    return push.push(model, tmp_path / "served" / name, **options).number


def _follow(scenario, folder):
    """Runs a scenario while a repository follows what is on the disk."""

    async def main():
        said = []
        repository = Repository(folder, said.append)
        following = asyncio.create_task(repository.run())
        try:
            await asyncio.wait_for(repository.settled.wait(), _PATIENCE)
            await scenario(repository, said)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await repository.close()

    asyncio.run(main())


async def _until(condition):
    async with asyncio.timeout(_PATIENCE):
        while True:
            with contextlib.suppress(RefusedError, KeyError):
                if condition():
                    return
            await asyncio.sleep(0.005)


def _number(repository, label=None, number=None, name="m"):
    return repository.find(name).find(number, label).number


def _states(repository, name="m"):
    return {n: version.state for n, version in sorted(repository.find(name).versions.items())}


def test_a_folder_without_any_version_is_refused(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "m"):
        with pytest.raises(UsageError, match="no versions in it"):
            Repository(folder, print)


def test_all_models_of_a_folder_or_one_of_them_are_served(fake, tmp_path):
    _push(tmp_path, b"one")
    _push(tmp_path, b"two", "other")
    (tmp_path / "served" / "empty").mkdir()

    async def all_of_them(repository, said):
        assert sorted(repository.models) == ["m", "other"]
        assert _number(repository) == _number(repository, "stable") == 1
        with pytest.raises(RefusedError, match="served: m, other") as refused:
            repository.find("empty")
        assert refused.value.status == 404

    async def one(repository, said):
        assert list(repository.models) == ["m"]

    _follow(all_of_them, tmp_path / "served")
    _follow(one, tmp_path / "served" / "m")


def test_a_new_version_takes_over_when_it_is_loaded_and_the_old_one_goes(fake, tmp_path):
    _push(tmp_path, b"one")

    async def scenario(repository, said):
        fake.loading.clear()
        assert _push(tmp_path, b"two") == 2
        await _until(lambda: _states(repository).get(2) == "LOADING")
        assert _number(repository) == _number(repository, "stable") == 1
        with pytest.raises(RefusedError, match="not loaded; loaded: 1"):
            _number(repository, number=2)
        fake.loading.set()
        await _until(lambda: _number(repository) == 2 and _number(repository, "stable") == 2)
        assert said[-2].startswith("m: version 2 is served")
        assert said[-1] == "m: stable is version 2"
        # With one place for what comes next, the one before stays until a third is there.
        assert _number(repository, number=1) == 1
        _push(tmp_path, b"three")
        await _until(lambda: _states(repository) == {1: END, 2: AVAILABLE, 3: AVAILABLE})
        assert fake.closed == [1]
        with pytest.raises(RefusedError, match="not loaded; loaded: 2, 3"):
            _number(repository, number=1)

    _follow(scenario, tmp_path / "served")


def test_a_version_is_freed_after_its_last_request(fake, tmp_path):
    _push(tmp_path, b"one")

    async def scenario(repository, said):
        with repository.hold("m", None, None) as held:
            assert held.number == 1
            _push(tmp_path, b"two")
            _push(tmp_path, b"three")
            await _until(lambda: _states(repository)[1] == "UNLOADING")
            await asyncio.sleep(0.1)
            assert held.loaded is not None
            assert fake.closed == []
        await _until(lambda: fake.closed == [1])

    _follow(scenario, tmp_path / "served")


def test_what_cannot_be_loaded_takes_nothing_away_and_says_so(fake, tmp_path):
    _push(tmp_path, b"one")

    async def scenario(repository, said):
        _push(tmp_path, fake.damaged)
        await _until(lambda: _states(repository).get(2) == END)
        await asyncio.sleep(0.1)
        assert _number(repository) == _number(repository, "stable") == 1
        status = repository.find("m").statuses(2, None)[0]
        assert status["state"] == END
        assert status["status"]["error_code"] == "NOT_FOUND"
        assert "is damaged" in status["status"]["error_message"]
        assert [line for line in said if "cannot be loaded" in line and "still served: 1" in line]
        push.rollback(tmp_path / "served" / "m", 1)
        await _until(lambda: _number(repository) == _number(repository, "stable") == 3)

    _follow(scenario, tmp_path / "served")


def test_what_could_not_be_loaded_is_tried_again(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_RETRY_SECONDS", 1.0)
    _push(tmp_path, fake.damaged)

    async def scenario(repository, said):
        with pytest.raises(RefusedError, match=r"cannot be served.*is damaged") as refused:
            _number(repository)
        assert refused.value.status == 503
        (tmp_path / "served" / "m" / "1" / "saved_model.pb").write_bytes(b"mended")
        await _until(lambda: _number(repository) == 1)
        assert repository.find("m").statuses(1, None)[0]["status"]["error_code"] == "OK"

    _follow(scenario, tmp_path / "served")


def test_labels_follow_the_ledger_once_their_version_is_loaded(fake, tmp_path):
    _push(tmp_path, b"one")

    async def scenario(repository, said):
        base = tmp_path / "served" / "m"
        _push(tmp_path, b"two", label="canary")
        await _until(lambda: _number(repository, "canary") == 2)
        assert _number(repository, "stable") == 1
        assert _number(repository) == 2
        push.promote(base, 2, "stable")
        await _until(lambda: _number(repository, "stable") == 2)
        push.rollback(base)
        await _until(lambda: _number(repository, "stable") == _number(repository) == 3)
        with pytest.raises(
            RefusedError, match="label: nightly; there are canary, stable"
        ) as refused:
            _number(repository, "nightly")
        assert refused.value.status == 400

    _follow(scenario, tmp_path / "served")


def test_a_damaged_ledger_changes_nothing(fake, tmp_path):
    _push(tmp_path, b"one")

    async def scenario(repository, said):
        ledger = tmp_path / "served" / "m" / labels.FILE
        content = ledger.read_bytes()
        # Cut, no text at all, and with a number that is none.
        for place, damaged in enumerate((b"{", b"\xff\xfe", content.replace(b": 1,", b": 1e999,"))):
            assert damaged != content
            said.clear()
            ledger.write_bytes(damaged)
            expected = "OverflowError" if place == 2 else "not a record of labels"
            await _until(lambda expected=expected: any(expected in line for line in said))
            assert _number(repository, "stable") == 1
            ledger.write_bytes(content)
            await _until(lambda: repository._complaint is None)
        _push(tmp_path, b"two")
        await _until(lambda: _number(repository, "stable") == 2)

    _follow(scenario, tmp_path / "served")


def test_without_labels_that_can_be_read_the_highest_version_is_served(fake, tmp_path):
    _push(tmp_path, b"one")
    _push(tmp_path, b"two")
    (tmp_path / "served" / "m" / labels.FILE).write_bytes(b"{")

    async def scenario(repository, said):
        assert _number(repository) == 2
        assert any("not a record of labels" in line for line in said)

    _follow(scenario, tmp_path / "served")


def test_models_appear_and_disappear(fake, tmp_path):
    _push(tmp_path, b"one")

    async def scenario(repository, said):
        _push(tmp_path, b"two", "late")
        await _until(lambda: _number(repository, name="late") == 1)
        (tmp_path / "served" / "late").rename(tmp_path / "gone")
        await _until(lambda: "late" not in repository.models)
        assert _number(repository) == 1

    _follow(scenario, tmp_path / "served")


@pytest.mark.soak
def test_latest_and_stable_always_lead_somewhere_while_versions_come_and_go(
    fake, tmp_path, round_, monkeypatch
):
    monkeypatch.setattr(models, "_INTERVAL", 0.0)
    _push(tmp_path, b"start")
    base = tmp_path / "served" / "m"
    done = threading.Event()

    def change():
        try:
            for turn in range(6):
                _push(tmp_path, f"{round_}-{turn}".encode(), keep_last=2)
                if turn % 2:
                    push.rollback(base)
        finally:
            done.set()

    async def scenario(repository, said):
        changing = threading.Thread(target=change)
        changing.start()
        while not done.is_set():
            for label in (None, "stable"):
                with repository.hold("m", None, label) as version:
                    await asyncio.sleep(0)
                    assert version.loaded is not None
        changing.join()
        assert fake.closed
        last = labels.load(base, [*range(1, 20)]).labels["stable"]
        await _until(lambda: _number(repository, "stable") == _number(repository) == last)

    _follow(scenario, tmp_path / "served")
