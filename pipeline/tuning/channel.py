"""How workers talk to the chief of a search: lines of JSON over one connection each.

Keras Tuner's own service knows chief and workers too, and is not used: a worker that dies leaves
its trial running and the chief waiting for ever, a chief that ends leaves the workers waiting for
an hour (keras-tuner#990), why a trial failed is not among what is sent, its scores lose half their
digits, and a space arrives in another order, with conditions in front of what they depend on.

Here the connection tells: it ends when either process does, and where a machine is gone without a
word, nothing comes any more.
"""

import contextlib
import hmac
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

# A worker says so often that it is there; after so long without a word it is not.
_BEAT = 5.0
_SILENCE = 60.0
_PATIENCE = 30.0
_LONGEST = 1 << 20


class GoneError(ConnectionError):
    """The chief is gone."""


class Chief:
    """Listens to workers; each call of one is answered in a thread of its own.

    Args:
        answer: Called with the worker's name, what it calls, and its arguments; returns the answer.
        left: Called with the name of a worker whose connection ended, and how.
        secret: What a worker has to know.
        host: Where it listens.
    """

    def __init__(
        self,
        answer: Callable[[str, str, dict[str, Any]], Any],
        left: Callable[[str, str], None],
        secret: str,
        host: str = "localhost",
    ):
        self._answer = answer
        self._left = left
        self._secret = secret
        chief = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = _SILENCE

            def handle(self) -> None:
                chief._serve(self)

        self._server = _Server((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.1], daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        name, how = "", "its connection ended"
        try:
            while line := handler.rfile.readline(_LONGEST):
                if not line.endswith(b"\n"):
                    break
                message = json.loads(line)
                if not name:
                    if not hmac.compare_digest(str(message.get("secret")), self._secret):
                        return
                    name = message["worker"]
                if (call := message.get("call")) is None:
                    continue  # it is there
                answered = self._answer(name, call, message.get("arguments", {}))
                handler.wfile.write(json.dumps(answered).encode() + b"\n")
        except TimeoutError:
            how = f"nothing was heard of it for {_SILENCE:g} s"
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            how = f"{type(error).__name__}: {error}"
        finally:
            if name:
                self._left(name, how)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class Worker:
    """A worker's end of the connection.

    Args:
        address: `host:port` of the chief.
        secret: What the chief wants to hear.
        name: Of the worker.
        gone: Called, in a thread of its own, when the chief is gone.

    Raises:
        GoneError: There is no chief.
    """

    def __init__(
        self,
        address: str,
        secret: str,
        name: str,
        gone: Callable[[], None] = lambda: None,
    ):
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=_PATIENCE)
        except OSError as error:
            raise GoneError(f"there is no chief at {address} ({error})") from None
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._introduction = {"secret": secret, "worker": name}
        self._gone = gone
        self._sending = threading.Lock()
        self._calling = threading.Lock()
        self._answered = threading.Condition()
        self._answers: list[Any] = []
        self._open = True
        self._send({})
        for target in (self._listen, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def call(self, name: str, **arguments: Any) -> Any:
        """Returns what the chief answers.

        Raises:
            GoneError: It is gone.
        """
        with self._calling:
            self._send({"call": name, "arguments": arguments})
            with self._answered:
                self._answered.wait_for(lambda: self._answers or not self._open)
                if not self._answers:
                    raise GoneError("the chief is gone")
                return self._answers.pop()

    def close(self) -> None:
        """Ends the connection; the chief is not said to be gone."""
        self._gone = lambda: None
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps({**message, **self._introduction}).encode() + b"\n"
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError:
            raise GoneError("the chief is gone") from None

    def _listen(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    with self._answered:
                        self._answers.append(json.loads(line))
                        self._answered.notify_all()
        except (OSError, ValueError):
            pass  # it is gone, in the middle of a line perhaps
        with self._answered:
            self._open = False
            self._answered.notify_all()
        self._gone()

    def _beat(self) -> None:
        while self._open:
            time.sleep(_BEAT)
            try:
                self._send({})
            except GoneError:
                return
