"""The process: its socket, its connections, and how it ends."""

import asyncio
import contextlib
import ctypes
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import PipelineError, UsageError
from pipeline.serving.laptop import limits
from pipeline.serving.laptop.app import Service
from pipeline.serving.laptop.limits import Limits
from pipeline.serving.laptop.models import Repository

# More connections than these are closed at once; most systems allow a process 1,024 files.
_CONNECTIONS = 500
# Seconds for the head of a request, for what is left of a body that was refused, and for a client
# to read on.
_PATIENCE = 15.0
_KEEP_ALIVE = 60
# Seconds for the requests that are being answered when the server is asked to end.
_GRACE = 30
# Of mallopt: pieces of at least so many bytes are taken from the system each by itself.
_MMAP_THRESHOLD, _LARGE = -3, 4 << 20


class Server:
    """Answers for the models below a directory. The port is taken when it is made.

    Args:
        folder: The directory of all models, or of one.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        bounds: How much is taken on.
        say: Is told in one line what changes; may be called in any thread.
        ready: Is called once, when every version has been tried.

    Raises:
        UsageError: There is no such directory, no model in it, or no such address.
        PipelineError: The port is taken.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        port: int = 8501,
        bounds: Limits | None = None,
        say: Callable[[str], None] = lambda line: None,
        ready: Callable[["Server"], None] = lambda server: None,
    ):
        if not folder.is_dir():
            raise UsageError(f"model {str(folder)!r}: no such directory; `run` makes one")
        self.repository = Repository(folder, say)
        self._socket = _listening(host, port)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://{_shown(host)}:{self.port}"
        self._ready = ready
        self.service = Service(self.repository, bounds or Limits(), limits.allowed_hosts(host))
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                self.service.app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GRACE,
            )
        )

    def run(self) -> int | None:
        """Answers requests until a signal or `stop` ends it, and returns the signal.

        Requests that are being answered then are answered; a second Ctrl-C does not wait for them.
        """
        _return_memory()
        return asyncio.run(self._run())

    def stop(self) -> None:
        """Ends `run` as a signal does; may be called in any thread."""
        self._uvicorn.should_exit = True

    async def _run(self) -> int | None:
        following = asyncio.create_task(self.repository.run())
        announcing = asyncio.create_task(self._announce())
        try:
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            following.cancel()
            announcing.cancel()
            await asyncio.gather(following, announcing, return_exceptions=True)
            await self.repository.close()
            self.service.close()
        return self._uvicorn.received

    async def _announce(self) -> None:
        await self.repository.settled.wait()
        self._ready(self)


def _return_memory() -> None:
    """Lets glibc return large pieces when they are freed; else it keeps what bodies took."""
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(_MMAP_THRESHOLD, _LARGE)


class _Uvicorn(uvicorn.Server):
    """Notes which signal ended it, instead of raising it once more."""

    received: int | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def receive(number: int, frame: FrameType | None) -> None:
            self.received = self.received or number
            self.handle_exit(number, frame)

        try:
            before = {n: signal.signal(n, receive) for n in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # in another thread than the main one there are no signals
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Connection(H11Protocol):
    """A connection that waits neither for ever for a request nor for its reader."""

    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
            return
        self._watch(is_new=True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(_PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stuck)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._late)
        _cancel(self._stuck)

    def _watch(self, is_new: bool = False) -> None:
        """Sees to it that a request that has begun to come comes to its end.

        While one is being answered, its body has a clock of its own.
        """
        is_answering = self.cycle is not None and not self.cycle.response_complete
        is_partial = bool(self.conn.trailing_data[0]) or self.conn.their_state is h11.SEND_BODY
        if is_answering or not (is_new or is_partial):
            _cancel(self._late)
            self._late = None
        elif self._late is None:
            self._late = self.loop.call_later(_PATIENCE, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on an address of `host`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:  # the latter for what no name can be
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--host {host!r}: no address of this machine ({why})") from None
    # Of `localhost` the address that everybody tries.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise _unbound(host, port, error) from None
    listening.setblocking(False)
    return listening


def _unbound(host: str, port: int, error: OSError) -> PipelineError:
    if error.errno == errno.EADDRINUSE:
        return PipelineError(
            f"port {port}: in use by another program; --port takes another one, --port 0 any that "
            "is free"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"--host {host!r}: no address of this machine")
    return PipelineError(f"port {port} of {host}: {error.strerror}")


def _shown(host: str) -> str:
    """Returns the host as a browser on this machine calls it."""
    if host in ("0.0.0.0", "::", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host
