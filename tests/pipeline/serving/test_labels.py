import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.errors import DataError, PipelineError, UsageError
from pipeline.serving import labels, push, versions
from pipeline.serving.labels import Ledger
from tests.pipeline.serving.model_server import ModelServer
from tests.pipeline.serving.models import saved_model

_CONTENTS = "abcd"


def test_a_move_remembers_where_the_label_was():
    ledger = Ledger().moved("stable", 1).moved("stable", 2)
    assert (ledger.labels, ledger.previous) == ({"stable": 2}, {"stable": 1})
    assert ledger.history == (1, 2)
    assert ledger.moved("stable", 2) == ledger


def test_canary_is_never_behind_stable():
    ledger = Ledger().moved("stable", 1).moved("canary", 2).moved("stable", 3)
    assert ledger.labels == {"stable": 3, "canary": 3}
    with pytest.raises(UsageError, match="version 2 of m: older than stable, which is 3"):
        labels.require_promotable(ledger, [1, 2, 3], "canary", 2, "m")


def test_what_is_loaded_reaches_down_to_one_below_the_lowest_label():
    present = [1, 2, 4, 5, 9]
    assert Ledger().loaded(present) == [9]
    # With a place for the next one.
    assert Ledger(labels={"stable": 1}).num_versions([1]) == 2
    assert Ledger(labels={"stable": 9}).loaded(present) == [5, 9]
    assert Ledger(labels={"stable": 4, "canary": 9}).loaded(present) == [2, 4, 5, 9]
    assert Ledger(labels={"stable": 1}).loaded(present) == present


def test_a_label_does_not_go_where_servers_cannot_follow():
    ledger = Ledger(highest=5, labels={"stable": 5})
    labels.require_promotable(ledger, [1, 2, 3, 4, 5], "stable", 4, "m")
    with pytest.raises(UsageError, match=r"only 4, 5 loaded.*rollback m --to 2 publishes it"):
        labels.require_promotable(ledger, [1, 2, 3, 4, 5], "stable", 2, "m")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"highest": "x"}', "half {"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / labels.FILE).write_text(text)
    with pytest.raises(DataError, match=r"\.labels\.json: not a record of labels; remove"):
        labels.load(tmp_path, [1])


_numbers = st.integers(1, 9)
_ledgers = st.builds(
    Ledger,
    highest=_numbers,
    labels=st.dictionaries(st.sampled_from(["stable", "canary"]), _numbers),
    previous=st.dictionaries(st.sampled_from(["stable", "canary"]), _numbers),
    history=st.lists(_numbers, unique=True).map(tuple),
    withdrawn=st.dictionaries(st.text("0123456789abcdef"), _numbers),
)


@given(_ledgers, st.sets(_numbers), st.integers(1, 9))
def test_what_may_go_is_neither_newest_nor_labelled(ledger, present, keep_last):
    ledger = ledger.among(present)
    gone = set(ledger.removable(present, keep_last))
    assert len(present - gone) >= min(keep_last, len(present))
    assert not gone & {*sorted(present)[-keep_last:], *ledger.labels.values()}
    assert ledger.removable(present, None) == []


@given(_ledgers)
def test_what_is_written_is_read(ledger):
    assert labels.parse(labels.as_text(ledger), "x") == ledger


class Pushes(RuleBasedStateMachine):
    """Any sequence of commands, against a plain account of it and a server that follows it."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.models = [
            saved_model(self.folder / "sources" / content, content.encode(), parts=1)
            for content in _CONTENTS
        ]
        self.base = self.folder / "saved_models" / "m"
        self.server = ModelServer(self.base)
        # The content of each version there ever was, and what stable led to, as a stack.
        self.contents: dict[int, str] = {}
        self.present: set[int] = set()
        self.stable: list[int] = []
        self.canary: int | None = None
        # The contents that a person took out of service.
        self.withdrawn: set[str] = set()
        # Thousands of flushes to a disk are not what is tested.
        self.unflushed = mock.patch("os.fsync")
        self.unflushed.start()

    def teardown(self):
        if hasattr(self, "folder"):
            self.unflushed.stop()
            shutil.rmtree(self.folder)

    def move_stable(self, number):
        while self.stable and self.stable[-1] >= number:
            self.stable.pop()
        self.stable.append(number)
        self.withdrawn.discard(self.contents[number])
        if self.canary is not None:
            self.canary = max(self.canary, number)

    def in_service(self):
        return list(self.stable), self.canary

    def withdraw(self, before):
        stable, canary = before
        left = {*stable} - {*self.stable}
        # What was replaced by going back is withdrawn, also where it may be gone back to.
        left |= {*stable[-1:]} - {*self.stable[-1:]} | ({canary} - {None, self.canary})
        self.withdrawn |= {self.contents[number] for number in left}
        if self.stable:
            self.withdrawn.discard(self.contents[self.stable[-1]])

    def forget(self, removed):
        self.present -= set(removed)
        self.stable = [number for number in self.stable if number in self.present]

    @rule(
        content=st.sampled_from(range(len(_CONTENTS))),
        label=st.sampled_from(["stable", "stable", "canary"]),
        keep_last=st.sampled_from([None, 1, 2, 4]),
        again=st.booleans(),
    )
    def push(self, content, label, keep_last, again):
        name = _CONTENTS[content]
        labelled = self.canary if label == "canary" else (self.stable or [None])[-1]
        looked_at = {max(self.present, default=None), labelled} - {None}
        equal = [number for number in looked_at if self.contents[number] == name]
        options = {"label": label, "keep_last": keep_last, "again": again}
        if name in self.withdrawn and not again and labelled not in equal:
            with pytest.raises(PipelineError, match="took out of service"):
                push.push(self.models[content], self.base, **options)
            return
        pushed = push.push(self.models[content], self.base, **options)
        assert pushed.is_new == (not equal)
        if equal:
            assert pushed.number in equal
        else:
            assert pushed.number > max(self.contents, default=0)
            self.contents[pushed.number] = name
            self.present.add(pushed.number)
        if label == "stable":
            self.move_stable(pushed.number)
        else:
            self.canary = pushed.number
        assert not set(pushed.removed) & {max(self.present), self.canary, *self.stable[-1:]}
        self.forget(pushed.removed)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def roll_back(self, data):
        to = data.draw(st.sampled_from([None, *sorted(self.present)]))
        now = self.stable[-1] if self.stable else max(self.present)
        if to is None:
            before = [n for n in self.stable[:-1] if self.contents[n] != self.contents[now]]
            expected = before[-1] if before else None
        else:
            expected = None if to == now == max(self.present) else to
        if expected is None:
            with pytest.raises(UsageError):
                push.rollback(self.base, to)
            return
        pushed, target = push.rollback(self.base, to)
        assert target == expected
        assert pushed.number > max(self.contents)
        before = self.in_service()
        self.contents[pushed.number] = self.contents[target]
        self.present.add(pushed.number)
        if target in self.stable:
            del self.stable[self.stable.index(target) :]
        self.move_stable(pushed.number)
        self.withdraw(before)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), label=st.sampled_from(["stable", "canary"]))
    def promote(self, data, label):
        number = data.draw(st.sampled_from(sorted(self.present)))
        try:
            push.promote(self.base, number, label)
        except UsageError:
            is_behind = label == "canary" and self.stable and number < self.stable[-1]
            assert is_behind or number not in self.server.loaded
            return
        before, canary = self.in_service(), self.canary
        is_back = self.stable and number < self.stable[-1]
        if label == "stable":
            self.move_stable(number)
        else:
            is_back = canary is not None and number < canary
            self.canary = number
        if is_back:
            self.withdraw(before)

    @invariant()
    def what_is_there_is_what_was_pushed(self):
        if not hasattr(self, "base") or not self.present:
            return
        assert set(versions.versions(self.base)) == self.present
        for number in self.present:
            content = self.models[_CONTENTS.index(self.contents[number])]
            assert versions.digest(self.base / str(number)) == versions.digest(content)
        expected = {"stable": self.stable[-1]} if self.stable else {}
        expected |= {"canary": self.canary} if self.canary is not None else {}
        assert labels.load(self.base, self.present).labels == expected

    @invariant()
    def servers_follow_and_every_label_always_leads_somewhere(self):
        if not hasattr(self, "base") or not self.present:
            return
        # Files are looked at every second, the configuration less often.
        self.server.poll_versions()
        assert set(self.server.labels.values()) <= self.server.loaded
        self.server.poll_configuration()
        assert set(self.server.labels.values()) <= self.server.loaded
        assert max(self.present) in self.server.loaded
        assert self.server.labels == labels.load(self.base, self.present).labels


TestPushes = Pushes.TestCase
TestPushes.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
