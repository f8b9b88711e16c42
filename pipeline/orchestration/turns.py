"""What threads of one process have to do in turn."""

import ast
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

# The first version in which each parser counts its own depth.
_MENDED = (3, 11, 8)


@contextlib.contextmanager
def parsing() -> Iterator[None]:
    """Lets threads parse source code one after the other, until the block ends.

    CPython before 3.11.8 counts the depth of all parsers together, and `ast.parse`, with which
    TensorFlow's AutoGraph begins, raises a SystemError when two threads are at it at once
    (https://github.com/python/cpython/issues/106905).
    """
    if sys.version_info >= _MENDED:
        yield
        return
    parse, turn = ast.parse, threading.RLock()

    def parse_in_turn(*arguments: Any, **options: Any) -> ast.AST:
        with turn:
            return parse(*arguments, **options)

    ast.parse = parse_in_turn
    try:
        yield
    finally:
        ast.parse = parse
