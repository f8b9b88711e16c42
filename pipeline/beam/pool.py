"""A pool of Python workers for Beam's EXTERNAL environment, beside each task manager of a cluster.

Beam's own listens on every interface, starts whichever `python` is on PATH, and stops a worker that
prints much, since nobody reads it.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as messages
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services

from pipeline.errors import UsageError

_PATIENCE = 10.0
_THREADS = 8


class Pool(services.BeamFnExternalWorkerPoolServicer):
    """Starts a worker, a process with this Python and this package, for each that a runner wants.

    Args:
        say: Receives a line for each that starts or ends.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._lock = threading.Lock()
        # Task managers number their workers alike, and may share a pool.
        self._workers: dict[str, list[subprocess.Popen[bytes]]] = {}

    def StartWorker(
        self, request: messages.StartWorkerRequest, context: Any
    ) -> messages.StartWorkerResponse:
        """Starts a worker; what goes wrong is in the response."""
        name = request.worker_id
        command = [
            *(sys.executable, "-m", "pipeline.beam.boot", f"--id={name}"),
            f"--logging_endpoint={request.logging_endpoint.url}",
            f"--provision_endpoint={request.provision_endpoint.url}",
            f"--control_endpoint={request.control_endpoint.url}",
        ]
        try:
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            return messages.StartWorkerResponse(error=f"no worker could be started: {error}")
        with self._lock:
            self._workers.setdefault(name, []).append(worker)
        self._say(f"worker {name} started, process {worker.pid}")
        threading.Thread(target=self._attend, args=(name, worker), daemon=True).start()
        return messages.StartWorkerResponse()

    def StopWorker(
        self, request: messages.StopWorkerRequest, context: Any
    ) -> messages.StopWorkerResponse:
        """Ends a worker, if it still runs, and it is clear which one is meant.

        One of several of a name ends with the connection to its task manager.
        """
        with self._lock:
            workers = list(self._workers.get(request.worker_id, ()))
        if len(workers) == 1:
            _end(workers[0])
        return messages.StopWorkerResponse()

    def stop(self) -> None:
        """Ends all workers."""
        with self._lock:
            workers = [worker for named in self._workers.values() for worker in named]
        for worker in workers:
            worker.terminate()
        for worker in workers:
            _end(worker)

    def _attend(self, name: str, worker: subprocess.Popen[bytes]) -> None:
        status = worker.wait()
        with self._lock:
            self._workers[name].remove(worker)
        self._say(f"worker {name} ended, status {status}")


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def serve(host: str, port: int, say: Callable[[str], None], over: threading.Event) -> None:
    """Serves a pool until `over`.

    Args:
        host: The address to listen on; whoever reaches it can start processes here.
        port: The port; 0 for any that is free.
        say: Receives a line when it listens, and for each worker.
        over: Ends it.

    Raises:
        UsageError: The port cannot be had.
    """
    pool = Pool(say)
    # A task manager asks whether this is alive while no worker is wanted.
    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # a second pool is told that the port is taken
    ]
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=options)
    services.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UsageError(
            f"--host {host} --port {port}: cannot listen there ({error}); choose another port"
        ) from None
    server.start()
    say(f"workers are started for whoever asks at {host}:{bound}")
    try:
        over.wait()
    finally:
        server.stop(0).wait()
        pool.stop()
