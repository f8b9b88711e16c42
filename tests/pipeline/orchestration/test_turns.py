import ast
import gc
import inspect
import sys
import threading
import time

import pytest

from pipeline.orchestration import turns


def parse_at_once():
    """Returns what two threads that parse, and are interrupted in it, run into."""
    source = inspect.getsource(ast)
    failures = []

    def work():
        try:
            for _ in range(8):
                ast.parse(source)
        except SystemError as error:
            failures.append(error)

    def interrupt(phase, info):
        time.sleep(0)

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    gc.callbacks.append(interrupt)
    try:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(interrupt)
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
    return failures


def test_threads_parse_source_code_without_harm():
    before = ast.parse
    with turns.parsing():
        assert parse_at_once() == []
    assert ast.parse is before


def test_an_error_in_the_source_comes_through():
    with turns.parsing(), pytest.raises(SyntaxError):
        ast.parse("a b")
