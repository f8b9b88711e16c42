"""What workers count and say reaches the process that shows it, from wherever they run."""

import pickle
import subprocess
import sys
import threading

import pytest

from pipeline.beam.reporter import Reporter

ELSEWHERE = """
import pickle, sys
there = pickle.load(sys.stdin.buffer)
there.tick(5)
there.say("two\\nlines, größer")
there.say("and one")
"""


@pytest.fixture
def reporter(tmp_path):
    made = Reporter(tmp_path)
    yield made
    made.close()


def send(reporter):
    subprocess.run([sys.executable, "-c", ELSEWHERE], input=pickle.dumps(reporter), check=True)


def test_it_stays_the_one_that_it_is_in_its_own_process():
    reporter = Reporter()
    assert pickle.loads(pickle.dumps(reporter)) is reporter
    pickle.loads(pickle.dumps(reporter)).tick(3)
    reporter.say("here")
    assert reporter.count() == 3
    assert list(reporter.lines()) == ["here"]
    assert list(reporter.lines()) == []
    reporter.close()


def test_other_processes_add_up_and_each_line_comes_once(reporter):
    reporter.tick(1)
    send(reporter)
    assert reporter.count() == 6
    assert sorted(reporter.lines()) == ["and one", "two lines, größer"]
    send(reporter)
    assert reporter.count() == 11
    assert len(list(reporter.lines())) == 2


def test_a_line_that_is_being_written_waits_for_its_end(reporter, tmp_path):
    path = tmp_path / "worker.lines"
    path.write_text("one is whole\nand this is n", encoding="utf-8")
    assert list(reporter.lines()) == ["one is whole"]
    with path.open("a", encoding="utf-8") as file:
        file.write("ot\n")
    assert list(reporter.lines()) == ["and this is not"]


def test_threads_lose_nothing():
    reporter = Reporter()
    threads = [
        threading.Thread(target=lambda: [reporter.tick() for _ in range(500)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reporter.count() == 4000
    reporter.close()


def test_a_count_that_cannot_be_read_just_now_is_what_it_was(reporter, tmp_path):
    path = tmp_path / "worker.count"
    path.write_text("7")
    assert reporter.count() == 7
    path.write_text("")
    assert reporter.count() == 7
    path.unlink()
    assert reporter.count() == 7


def test_a_name_that_is_no_text_can_be_said(reporter):
    program = ELSEWHERE.replace('"and one"', r'"\udcff.png"')
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(reporter), check=True)
    assert r"\udcff.png" in list(reporter.lines())
