"""The command beside each task manager of a cluster: worker-pool."""

import signal
import threading
from types import FrameType
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(worker_pool)


def worker_pool(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for any free one.")
    ] = 50000,
    host: Annotated[
        str, typer.Option(help="The address to listen on; whoever reaches it starts processes.")
    ] = "localhost",
) -> None:
    """Start Python workers for a cluster, as Beam's environment_type EXTERNAL asks for them."""
    from pipeline import quiet

    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, end)
    # What its workers say comes through the same filter.
    with quiet.filtered_stderr():
        quiet.tensorflow()
        from pipeline.beam import pool

        pool.serve(host, port, lambda line: print(line, flush=True), over)
