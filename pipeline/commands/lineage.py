"""Commands on where things come from, and on what is no longer needed: lineage, gc."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import files, telling
from pipeline.commands import options

if TYPE_CHECKING:
    from pipeline.orchestration.lineage import Lineage, Origin
    from pipeline.orchestration.store import Artifact

_DIGEST = 12


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (lineage, gc):
        app.command()(command)


def lineage(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="VERSION",
            help="A pushed version such as saved_models/digits/7, or an artifact of a run such as "
            "runs/digits/Trainer/model/5.",
        ),
    ],
    root: options.ArtifactRoot = Path("runs"),
    images: Annotated[
        bool, typer.Option("--images", help="Print split, class and name of each image instead.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print all that is known, for programs.")
    ] = False,
) -> None:
    """Say where a version comes from: images, parameters, code, libraries, commands."""
    from pipeline.orchestration import lineage as origins

    found = origins.of(path, root)
    if images:
        for line in _images(found):
            print(line)
    elif json_:
        print(json.dumps(origins.as_json(found), indent=2))
    else:
        print("\n".join(_tree(found)))


def gc(
    name: Annotated[
        str | None, typer.Argument(help="A pipeline, such as 'digits'; by default all of them.")
    ] = None,
    root: options.ArtifactRoot = Path("runs"),
    keep_runs: Annotated[
        int, typer.Option(metavar="N", min=0, help="Keep what the newest N runs of each used.")
    ] = 10,
    destination: Annotated[
        list[Path] | None,
        typer.Option(help="Where else models were pushed to; what runs pushed to is known."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
) -> None:
    """Remove artifacts that no kept run used and that no pushed version stems from."""
    from pipeline.orchestration import collection, lookup

    total = 0
    stores = lookup.stores(root) if name is None else [lookup.store(root, name)]
    for store in stores:
        collected = collection.collect(store, keep_runs, destination or (), dry_run)
        for path in collected.paths:
            print(f"{'would remove' if dry_run else 'removed'} {files.relative(path)}")
        total += collected.bytes
    print(f"{telling.size(total)} ({total:,} bytes) {'would be' if dry_run else 'are'} free")


def _tree(found: "Lineage") -> list[str]:
    """Returns the origin of a version, as lines for a person."""
    lines = [f"{found.path}{_pushed(found.record)}"]
    told: set[int] = set()
    runs = {}

    def tell(label: str, origin: "Origin", indent: str) -> None:
        execution, run = origin.execution, origin.run
        of_run = f" of run {run.id}" if run else ""
        lines.append(f"{indent}{label}{execution.component}, execution {execution.id}{of_run}")
        if execution.id in told:
            lines[-1] += ", as above"
            return
        told.add(execution.id)
        if run is not None:
            runs[run.id] = run
        inner = indent + "  "
        if execution.outcome:
            lines.append(f"{inner}{execution.outcome.result}")
        for key, value in _facts(origin).items():
            lines.append(f"{inner}{key}: {value}")
        for key, (artifact, above) in origin.inputs.items():
            if above is None:
                lines.append(f"{inner}← {key}: {_named(artifact)}")
            else:
                tell(f"{key} ({_named(artifact)}) ← ", above, inner)

    tell("← ", found.origin, "")
    for number, run in sorted(runs.items()):
        lines.append(f"run {number}: {telling.when(run.started)}, {run.command or 'from Python'}")
        if run.commit:
            lines.append(f"  code of commit {run.commit}")
        lines.append(f"  show {run.pipeline}/{number} --config prints its configuration")
    return lines


def _pushed(record: dict) -> str:
    if not record:
        return ""
    parts = [f"pushed {record['pushed_at']}"] if "pushed_at" in record else []
    if "republished_from" in record:
        parts.append(f"version {record['republished_from']} again")
    accuracy = record.get("metrics", {}).get("accuracy")
    if accuracy is not None:
        parts.append(f"test accuracy {accuracy:.2%}")
    parts.append(f"SavedModel {str(record.get('digest', ''))[:_DIGEST]}")
    return f": {', '.join(parts)}"


def _facts(origin: "Origin") -> dict[str, str]:
    """Returns what an execution depends on beside its inputs, in a line each."""
    from pipeline.orchestration import lineage as origins
    from pipeline.orchestration.why import flat, shown

    dependencies = origin.execution.dependencies
    given = flat(dependencies.get("parameters") or {})
    given = {name: value for name, value in given.items() if name and value not in (None, {}, [])}
    outside = flat(dependencies.get("external"))
    facts = {
        "parameters": ", ".join(f"{name}={shown(given, name)}" for name in given),
        "outside the graph": ", ".join(
            f"{name} {shown(outside, name)}".strip()
            for name in outside
            if outside[name] is not None
        ),
    }
    if code := dependencies.get("code"):
        facts["code"] = f"{len(code)} modules, {origins.code_digest(origin.execution)[:_DIGEST]}"
    libraries = dependencies.get("libraries") or {}
    facts["libraries"] = ", ".join(f"{name} {version}" for name, version in libraries.items())
    return {key: value for key, value in facts.items() if value}


def _named(artifact: "Artifact") -> str:
    return f"{files.relative(artifact.uri)}, {artifact.digest[:_DIGEST]}"


def _images(found: "Lineage") -> list[str]:
    """Returns split, class and name of each image that a version was made from or measured with."""
    from pipeline.errors import UsageError
    from pipeline.orchestration import lineage as origins
    from pipeline.records import manifest

    lines = []
    for examples in origins.examples(found):
        if not examples.uri.is_dir():
            raise UsageError(f"{examples.uri}: not there any more; `gc` or a person removed it")
        contents = manifest.load(examples.uri)
        for split in contents.splits:
            for example in manifest.examples_of(examples.uri, contents, split):
                lines.append(f"{split}\t{example.text}\t{example.filename}")
    return lines
