"""Workers that die, at once, now and then, or because of what they read."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.beam import execution, parallel
from pipeline.orchestration.artifact import Context


@dataclass(frozen=True)
class Echo:
    """Returns the names it was given; dies at some of them."""

    deadly_name: str = ""
    killed_once: Path | None = None
    always: bool = False

    def __call__(self, element, journal, deadly):
        kept = []
        for name in element:
            if name in deadly:
                kept.append(f"deadly {name}")
                continue
            parallel.note(journal, name)
            if name == self.deadly_name or self.always:
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.killed_once and name == "b3" and not self.killed_once.exists():
                self.killed_once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            kept.append(name)
        return kept


ELEMENTS = [[f"{letter}{number}" for letter in "ab"] for number in range(8)]


def spread(work, workers, expected):
    said = []
    context = Context("test", say=said.append)
    with execution.pipeline(context, 1, Path()) as running:
        results = (
            running.pipeline
            | beam.Create(ELEMENTS)
            | parallel.spread(work, workers, running.reporter)
        )
        assert_that(results | beam.FlatMap(lambda names: names), equal_to(expected))
    return said


NAMES = [name for element in ELEMENTS for name in element]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_element_is_worked_on_once(workers):
    assert spread(Echo(), workers, NAMES) == []


def test_what_kills_its_reader_is_named_and_the_rest_is_read():
    expected = [name if name != "a5" else "deadly a5" for name in NAMES]
    said = spread(Echo(deadly_name="a5"), 2, expected)
    assert said[0].startswith("a worker process died (SIGSEGV(-11)")
    assert said[1].startswith("a5 kills the process that reads it (SIGSEGV")


def test_a_worker_that_was_killed_from_outside_is_reported_and_replaced(tmp_path):
    said = spread(Echo(killed_once=tmp_path / "once"), 2, NAMES)
    assert len(said) == 1
    assert said[0].startswith("a worker process died (SIGKILL(-9)")


def test_workers_that_die_again_and_again_end_the_run_within_a_minute(monkeypatch):
    begin = time.monotonic()
    monkeypatch.setattr(parallel, "_DEATHS", 1)
    with pytest.raises(Exception, match=r"worker processes die \(SIGSEGV"):
        spread(Echo(always=True), 2, NAMES)
    assert time.monotonic() - begin < 60
