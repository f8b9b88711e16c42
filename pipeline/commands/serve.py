"""The command serve: models on one's own machine, for programs and in a browser."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import Stopped, UsageError

if TYPE_CHECKING:
    from pipeline.serving.laptop.server import Server

_MEGA = 1_000_000


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(serve)


def serve(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Where models are pushed to, or one model.")
    ] = "saved_models",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8501,
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default this machine alone asks.")
    ] = "127.0.0.1",
    max_batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that are computed at once.")
    ] = 32,
    max_queue: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that may wait for one signature.")
    ] = 1024,
    max_instances: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images of one request.")
    ] = 256,
    max_body: Annotated[
        int, typer.Option(min=1, metavar="MB", help="The body of one request, in megabytes.")
    ] = 32,
    max_pixels: Annotated[
        int,
        typer.Option(min=1, max=64, metavar="MILLIONS", help="Pixels of an image, in millions."),
    ] = 64,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="The time that an answer may take.")
    ] = 30.0,
) -> None:
    """Serve pushed models on this machine: TF Serving's REST paths, and a page for the browser."""
    from pipeline import quiet

    if "://" in folder:
        raise UsageError(f"{folder}: only models in directories of this machine are served")

    with quiet.filtered_stderr():
        # Of what it logs, clients are told what concerns them; a bad file is no event here.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from pipeline.serving.laptop import server
        from pipeline.serving.laptop.limits import Limits

        bounds = Limits(
            max_body=max_body * _MEGA,
            max_pixels=max_pixels * _MEGA,
            max_instances=max_instances,
            max_batch=max_batch,
            max_queue=max(max_queue, max_instances),
            timeout=timeout,
        )
        received = server.Server(Path(folder), host, port, bounds, _say, _announce).run()
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    if received == signal.SIGTERM:
        raise Stopped("stopped by SIGTERM; what had been asked was answered")


def _say(line: str) -> None:
    # In one piece: threads say something at the same time.
    print(f"{line}\n", end="", file=sys.stderr, flush=True)


def _announce(server: "Server") -> None:
    names = sorted(server.repository.models)
    paths = ", ".join(f"{server.url}/v1/models/{name}:predict" for name in names)
    print(f"serving on {server.url}/ (a page to try photos on) and {paths}\n", end="", flush=True)
