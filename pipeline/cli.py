"""The command line: the only place that parses arguments, prints results and exits."""

import contextlib
import difflib
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from pipeline.commands import compile as compilation
from pipeline.commands import infer, init, lineage, models, options, runs, serve, worker_pool
from pipeline.commands import report as drawing
from pipeline.errors import PipelineError, UsageError

# Nothing heavy is imported up here: `--help` has to answer at once.
app = typer.Typer(
    name="keras-resnet-pipeline",
    help="From images to a served model: ingest, validate, train, evaluate, check, push.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    pass


@app.command()
def run(
    config: options.Config = None,
    data: options.Data = None,
    span: options.Span = None,
    tfds_manual_dir: options.TfdsManualDir = None,
    name: options.Name = None,
    root: options.Root = None,
    destination: options.Destination = None,
    model: options.Model = None,
    init_from: options.InitFrom = None,
    workers: options.Workers = None,
    runner: options.Runner = None,
    beam_option: options.BeamOption = None,
    max_bad_fraction: options.MaxBadFraction = None,
    drop_near: options.DropNear = None,
    schema: options.Schema = None,
    waive: options.Waive = None,
    set_: options.Set = None,
    from_: options.From = None,
    to: options.To = None,
    only: options.Only = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and why, and run nothing.")
    ] = False,
) -> None:
    """Run a configuration from images to a pushed model."""
    from rich.console import Console

    from pipeline import api, launch, quiet, report
    from pipeline.orchestration import graph, selection, view

    chosen = options.load(locals())
    part = selection.select(graph.build(chosen), from_, to, only)
    if dry_run:
        from pipeline.orchestration import plan

        print("\n".join(plan.lines(plan.of(part, chosen.name, chosen.root / chosen.name))))
        return
    names = [node.name for node in part.nodes]
    console = Console()
    with quiet.filtered_stderr():
        if launch.is_peer():
            api.attend(chosen, view=view.Plain(console, names))
            return
        kind = view.Rich if console.is_terminal else view.Plain
        with kind(console, names) as shown:
            result = api.run(
                chosen, from_=from_, to=to, only=only, view=shown, command=options.command()
            )
    report.print_result(console, result)


@app.command(
    name="launch",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def launch_(
    context: typer.Context,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that train together, on this machine.")
    ] = 2,
    restarts: Annotated[
        int, typer.Option(min=0, help="How often all start again after one died.")
    ] = 3,
    hosts: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Print the command for each of these hosts instead."),
    ] = None,
    kubernetes: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Print a Kubernetes Job with this image instead."),
    ] = None,
    claim: Annotated[
        str, typer.Option(help="The PersistentVolumeClaim that the pods of the Job share.")
    ] = "pipeline",
    logs: Annotated[
        Path, typer.Option(help="Where the output of all workers but the first goes.")
    ] = Path("runs/.workers"),
) -> None:
    """Run a configuration on several workers: launch --workers 2 CONFIG and the options of run."""
    from pipeline import launch

    arguments = ["run", *context.args, "--set", "trainer.strategy=multi_worker"]
    if hosts is not None:
        print("\n".join(launch.commands(arguments, hosts.split(","))))
    elif kubernetes is not None:
        print(launch.kubernetes(arguments, workers, kubernetes, "pipeline", claim), end="")
    else:
        raise typer.Exit(launch.Supervisor(arguments, workers, restarts, logs).run())


@app.command()
def data_report(
    name: Annotated[str, typer.Argument(help="A run, such as 'photos'.")] = "digits",
    root: options.ArtifactRoot = Path("runs"),
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=options.local,
            help="The page; by default ROOT/NAME/data-report.html.",
        ),
    ] = None,
) -> None:
    """Draw the data of a run on one page: what was refused and why, classes, distributions."""
    from pipeline.reporting import data_report as page

    print(page.write(root / name, output))


@app.command()
def tensorboard(
    name: Annotated[
        str | None, typer.Argument(help="A run, such as 'digits'; by default all of them.")
    ] = None,
    root: options.ArtifactRoot = Path("runs"),
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 6006,
) -> None:
    """Show runs in TensorBoard, also while they go on."""
    logs = root / name if name else root
    if not logs.is_dir():
        found = sorted(p.name for p in root.glob("*") if p.is_dir() and p.name[0] != ".")
        raise UsageError(
            f"run {str(logs)!r}: no such directory; expected one of {', '.join(found) or 'nothing'}"
        )
    command = ["-m", "tensorboard.main", "--logdir", str(logs), "--port", str(port)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command])


@app.command()
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            parser=options.local,
            help="Image files, or folders of them; `infer` also reads URIs.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of saved_models/, or one version of it, by default saved_models/digits; "
            "with --server its name there, by default digits.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Classes to show per image.")] = 1,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask a server instead: http://HOST:8501 (REST), or grpc://HOST:8500.",
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="The version that the server is asked for.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The label that it is asked for, such as stable.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds for each request to the server, repetitions included.")
    ] = 60.0,
    token: Annotated[
        str | None,
        typer.Option(envvar="SERVING_TOKEN", help="A bearer token that the server expects."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="A PEM file of authorities that vouch for the server.")
    ] = None,
) -> None:
    """Print class and probability of image files, as the exported model sees them."""
    from pipeline import predict as prediction
    from pipeline import quiet

    if top < 1:
        raise UsageError(f"--top {top}: expected at least 1")
    for option, value in (("version", version), ("label", label)):
        if server is None and value is not None:
            raise UsageError(
                f"--{option} {value}: for --server alone; a version on this machine is a "
                "directory, such as --model saved_models/digits/3"
            )
    files = prediction.files(images)
    failed = False
    with contextlib.ExitStack() as stack:
        # The REST client brings nothing that talks.
        if server is None or not server.startswith(("http://", "https://")):
            stack.enter_context(quiet.filtered_stderr())
            quiet.tensorflow()
        if server is None:
            path = options.local("saved_models/digits" if model is None else model)
            answers = prediction.locally(files, path, top)
        else:
            from pipeline.serving import Client

            client = Client(
                server,
                "digits" if model is None else model,
                version=version,
                label=label,
                timeout=timeout,
                token=token,
                certificate=certificate,
            )
            answers = prediction.remotely(files, stack.enter_context(client), top)
        for line, good in prediction.lines(files, answers, top):
            print(line, file=sys.stdout if good else sys.stderr)
            failed |= not good
    if failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    config: Annotated[
        str, typer.Argument(help="An embedded configuration, or the path of a YAML file.")
    ] = "digits",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the configuration."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Print what a run finds on this machine, what Trainer would choose and why; 1 if it fails."""
    import json

    from rich.console import Console

    from pipeline import config as configuration
    from pipeline import doctor as examination
    from pipeline import quiet

    chosen = configuration.load(config, set_ or ())
    with quiet.filtered_stderr():
        report = examination.examine(chosen)
    if json_:
        print(json.dumps(report.json(), indent=2))
    else:
        examination.show(Console(), report)
    if not report.works:
        raise typer.Exit(1)


models.register(app)
infer.register(app)
runs.register(app)
lineage.register(app)
init.register(app)
compilation.register(app)
drawing.register(app)
serve.register(app)
worker_pool.register(app)


def main() -> None:
    """Runs the command line and exits: 0, 1 (failed), 2 (wrong use), 130 (Ctrl-C)."""
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may be no text
    debug = "--debug" in sys.argv
    # As in most programs, the flag may stand before or behind the command.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"] or ["--help"]
    try:
        code = app(args=arguments, prog_name=_program(), standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except TyperException as error:
        code = _complain(_explain(error), error.exit_code)
    except PipelineError as error:
        *others, last = getattr(error, "lines", (str(error),))
        for line in others:
            _complain(line, error.exit_code)
        code = _complain(last, error.exit_code, debug)
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001  a person gets one line, whatever went wrong
        line = f"{type(error).__name__}: {error}; --debug shows the traceback"
        code = _complain(line, PipelineError.exit_code, debug)
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code without a word
        print("stopped; what was finished is kept, nothing half-written is left", file=sys.stderr)
    sys.stdout.flush()
    sys.exit(code)


def _program() -> str:
    """Returns what the person typed to start this."""
    name = Path(sys.argv[0]).name
    return "python -m pipeline" if name in ("__main__.py", "-c") else name


def _complain(line: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(line.split())}", file=sys.stderr)
    return code


def _explain(error: TyperException) -> str:
    """Returns one line that says what was found and what was expected."""
    message = error.format_message().rstrip(".")
    message = f"{message[:1].lower()}{message[1:]}"
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    if option := getattr(error, "option_name", None):
        known = [name for p in context.command.params for name in p.opts if name[:2] == "--"]
        close = difflib.get_close_matches(option, known, n=1)
        expected = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
        return f"unknown option {option}; {expected}"
    if commands := getattr(context.command, "commands", None):
        return f"{message.split('.')[0]}; expected one of {', '.join(commands)}"
    return f"{message}; {context.command_path} --help shows what is expected"
