"""Independent nodes at once: a few threads take from a board what is ready.

The thread that asks for the work takes part in it. Only it receives signals, so that what has to be
asked to stop, such as a training, runs there.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Sequence

from pipeline.errors import Stopped
from pipeline.orchestration import turns
from pipeline.orchestration.graph import Node

# What still runs when a run is stopped may take so long to end.
_PATIENCE = 20.0


class Board:
    """The nodes that wait, run, have ended, have failed, or never will run.

    Args:
        nodes: The graph, each node behind those it depends on.
        done: Names of nodes that have ended well before.
        perform: Runs a node; raises where nothing that depends on it may run.
        threads: How many nodes may run at once.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        done: frozenset[str],
        perform: Callable[[Node], None],
        threads: int,
    ):
        self._waiting = [node for node in nodes if node.name not in done]
        self._done = set(done)
        self._perform = perform
        self._threads = threads
        self._changed = threading.Condition()
        self._running: dict[int, Node] = {}
        self._first_idle = False
        self._stopping = False
        self._fatal: BaseException | None = None
        self.errors: dict[str, Exception] = {}

    @property
    def unreached(self) -> dict[str, set[str]]:
        """Names of nodes that never ran, each with those whose failures it depends on."""
        blamed: dict[str, set[str]] = {name: {name} for name in self.errors}
        for node in self._waiting:
            causes = [blamed[name] for name in node.depends_on if name in blamed]
            blamed[node.name] = set().union(*causes)
        return {node.name: blamed[node.name] for node in self._waiting}

    def run(self) -> None:
        """Runs all nodes whose dependencies end well; `errors` says what failed.

        Raises:
            BaseException: What is no failure of one node: Ctrl-C, or `Stopped`. The other nodes
                have been stopped too.
        """
        with turns.parsing():
            self._run()

    def _run(self) -> None:
        helpers = [
            threading.Thread(target=self._help, name=f"component {number}", daemon=True)
            for number in range(1, min(self._threads, len(self._waiting)))
        ]
        for helper in helpers:
            helper.start()
        try:
            self._work(first=True)
            if self._fatal is None:
                for helper in helpers:
                    helper.join()
            if self._fatal is not None:
                raise self._fatal
        except BaseException:
            self._stop(helpers)
            raise

    def wait(self, seconds: float) -> None:
        """Waits, unless the run is stopped meanwhile."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self._stopping and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
        if self._stopping:
            raise KeyboardInterrupt

    def _help(self) -> None:
        try:
            self._work(first=False)
        except BaseException as error:  # noqa: BLE001  handed on to the first thread
            with self._changed:
                # Those that were stopped have nothing to say.
                if not self._stopping:
                    self._fatal, self._stopping = error, True
                self._changed.notify_all()

    def _work(self, first: bool) -> None:
        while (node := self._take(first)) is not None:
            try:
                self._perform(node)
            except Stopped:
                self._settle(node, None)
                raise
            except Exception as error:  # noqa: BLE001  the others go on; it is raised in the end
                self._settle(node, error)
            except BaseException:
                self._settle(node, None)
                raise
            else:
                self._settle(node, None, well=True)

    def _take(self, first: bool) -> Node | None:
        """Waits for a node that this thread may run; None when there will be none."""
        with self._changed:
            while not self._stopping:
                if node := self._choose(first):
                    self._waiting.remove(node)
                    self._running[threading.get_ident()] = node
                    self._changed.notify_all()
                    return node
                if not self._running and not self._ready():
                    self._changed.notify_all()
                    return None
                self._first_idle |= first
                try:
                    self._changed.wait()
                finally:
                    self._first_idle &= not first
        return None

    def _choose(self, first: bool) -> Node | None:
        """Returns the node that this thread should run now."""
        ready = self._ready()
        # What saves what it has when it is asked to stop runs where signals arrive, and goes first;
        # when that thread is idle it gets the first of all.
        mine = [node for node in ready if node.resumable]
        if first:
            return next(iter((*mine, *ready)), None)
        left = [node for node in ready if node not in mine]
        return next(iter(left[1:] if self._first_idle and not mine else left), None)

    def _ready(self) -> list[Node]:
        return [node for node in self._waiting if self._done.issuperset(node.depends_on)]

    def _settle(self, node: Node, error: Exception | None, well: bool = False) -> None:
        with self._changed:
            del self._running[threading.get_ident()]
            if well:
                self._done.add(node.name)
            elif error is not None:
                self.errors[node.name] = error
            self._changed.notify_all()

    def _stop(self, helpers: Sequence[threading.Thread]) -> None:
        """Interrupts what other threads run, and waits a while for them to end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            for thread in self._running.keys() - {threading.get_ident()}:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
                )
        end = time.monotonic() + _PATIENCE
        for helper in helpers:
            helper.join(max(0.0, end - time.monotonic()))
