"""What a run finds on this machine, what Trainer would choose here, and what stands in the way."""

import importlib
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import files, machine, quiet
from pipeline.components import trainer
from pipeline.config import RunConfig
from pipeline.errors import PipelineError, UsageError

DISTRIBUTION = "keras-resnet-pipeline"
# Another project, whose import name is that of the library here.
_NAMESAKE = "keras-resnet"
_SHOWN = ("tensorflow", "keras", "numpy", "apache-beam", "protobuf", "tensorboard", "pydantic")
_CUDA = ("nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12", "nvidia-nccl-cu12")
# They serve and check models, build and run the client in Java, and ask NVIDIA's driver.
_PROGRAMS = ("tensorflow_model_server", "docker", "java", "mvn", "nvidia-smi")
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "KERAS_BACKEND",
    "OMP_NUM_THREADS",
    "TF_CONFIG",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "XLA_FLAGS",
)
_AS_MANY = "as many as there are cores"
_GIB = 1 << 30
# Less than this, and a run of even the embedded data may fail.
_LEAST_MEMORY, _LEAST_DISK = 2 * _GIB, 1 * _GIB
# TensorFlow's wheels are compiled for it, and end with SIGILL elsewhere.
_NEEDED_X86 = "avx"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        found: What it is.
        advice: What to do.
        fatal: Whether a run cannot work.
    """

    found: str
    advice: str
    fatal: bool = False


@dataclass(frozen=True)
class Choice:
    """What a run would use, and why."""

    value: str
    reason: str


@dataclass
class Report:
    """What the doctor found.

    Attributes:
        found: Values by section and name.
        choices: What Trainer would choose, by name.
        problems: The fatal ones first.
    """

    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether a run would work."""
        return not any(problem.fatal for problem in self.problems)

    def json(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {"works": self.works, **asdict(self)}


def examine(config: RunConfig) -> Report:
    """Returns what a run of `config` would find here.

    TensorFlow is imported, but no GPU is touched: a training that runs on it goes on.
    """
    report = Report()
    report.found["machine"] = _machine(report.problems)
    report.found["versions"] = _versions(report.problems)
    report.found["directories"] = _directories(config, report.problems)
    report.found["programs"] = _programs()
    report.found["beam"] = _beam(config, report.problems)
    report.found["environment"] = _environment(os.environ, config, report.problems)
    quiet.tensorflow()
    if not any(problem.fatal for problem in report.problems):
        devices = _tensorflow(report.problems)
        report.found["tensorflow"] = devices
        if devices["imports"]:
            _choose(config, report)
    report.problems.sort(key=lambda problem: not problem.fatal)
    return report


def _machine(problems: list[Problem]) -> dict[str, Any]:
    name, flags = machine.processor()
    if platform.machine() in ("x86_64", "AMD64") and flags and _NEEDED_X86 not in flags:
        problems.append(
            Problem(
                f"the processor ({name}) has no AVX, for which TensorFlow is compiled",
                "use another machine, or build TensorFlow for this one",
                fatal=True,
            )
        )
    cores, memory = machine.cores(), machine.memory()
    found: dict[str, Any] = {
        "system": platform.platform(),
        "processor": name,
        "cores": cores.usable,
        "cores_present": cores.present,
        "cores_quota": cores.quota,
    }
    if memory:
        found |= {
            "memory_gib": _gib(memory.total),
            "memory_available_gib": _gib(memory.available),
            "memory_limit_gib": _gib(memory.limit) if memory.limit else None,
        }
        if memory.available < _LEAST_MEMORY:
            limited = " within the limit of the container" if memory.limit else ""
            problems.append(
                Problem(
                    f"{_gib(memory.available)} GiB of memory are available{limited}; a run takes "
                    f"about {_gib(_LEAST_MEMORY)} GiB",
                    "end other programs or raise the limit; or lower trainer.cache_mb and "
                    "trainer.batch_size",
                )
            )
    found["gpus"] = [asdict(gpu) for gpu in machine.gpus()] or machine.gpu_files()
    return found


def _versions(problems: list[Problem]) -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version()}
    found |= {name: _version(name) for name in (DISTRIBUTION, *_SHOWN)}
    found |= {name: version for name in _CUDA if (version := _version(name))}
    if namesake := _version(_NAMESAKE):
        problems.append(
            Problem(
                f"{_NAMESAKE} {namesake} is installed, another project whose import name is that "
                "of the library here; each has overwritten files of the other",
                f"pip uninstall {_NAMESAKE} {DISTRIBUTION}, then install the project again from "
                "the directory of its setup.cfg",
                fatal=True,
            )
        )
    for requirement in requirements():
        present = _version(requirement.name)
        if present is None or not requirement.specifier.contains(present, prereleases=True):
            was = f"{present} is installed" if present else "it is not installed"
            problems.append(
                Problem(
                    f"{requirement.name}: {was}, {requirement.specifier or 'any version'} is "
                    "required",
                    f"pip install '{requirement.name}{requirement.specifier}'",
                    fatal=True,
                )
            )
    return found


def requirements() -> list[Requirement]:
    """Returns what the pipeline needs on this system, as its distribution declares it.

    None where the source is used without being installed.
    """
    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = [Requirement(line) for line in declared]
    return [
        one for one in found if one.marker is None or one.marker.evaluate({"extra": "pipeline"})
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _directories(config: RunConfig, problems: list[Problem]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    wanted = {"root": config.root, "pusher.destination": config.pusher.destination}
    for name, directory in wanted.items():
        if not isinstance(directory, Path):
            found[name] = str(directory)  # a URI, which Pusher tries when it gets there
            continue
        free = machine.free_disk(directory)
        found |= {name: str(directory.absolute()), f"{name}_free_gib": _gib(free)}
        try:
            files.require_writable(directory, name)
        except UsageError as error:
            problems.append(
                Problem(str(error), f"make it writable, or set {name} to another", fatal=True)
            )
        if free < _LEAST_DISK:
            problems.append(
                Problem(
                    f"{name} {directory}: {_gib(free)} GiB are free; a run takes at least "
                    f"{_gib(_LEAST_DISK)} GiB, and twice its images",
                    f"free space, or set {name} to another directory",
                )
            )
    return found


def _programs() -> dict[str, Any]:
    found: dict[str, Any] = {name: shutil.which(name) for name in _PROGRAMS}
    if found["docker"] and not machine.docker_answers():
        found["docker"] += ", but no daemon answers"
    return found


def _beam(config: RunConfig, problems: list[Problem]) -> dict[str, Any]:
    found = {"runner": config.beam.runner, **config.beam.options}
    if not config.beam.is_local:
        from pipeline.beam import cluster

        try:
            cluster.check(config.beam)
        except PipelineError as error:
            advice = "mend that, or leave `beam` out of the configuration to compute here"
            problems.append(Problem(str(error), advice, fatal=True))
    return found


def _environment(
    variables: Mapping[str, str], config: RunConfig, problems: list[Problem]
) -> dict[str, str]:
    found = {name: variables[name] for name in _VARIABLES if name in variables}
    backend = found.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        problems.append(
            Problem(
                f"KERAS_BACKEND is {backend!r}, but the pipeline computes with TensorFlow",
                "leave it, as the pipeline sets it to 'tensorflow' for itself; in programs of your "
                "own keras_resnet uses the backend that you name",
            )
        )
    if "TF_CONFIG" in found and config.trainer.strategy != "multi_worker":
        problems.append(
            Problem(
                "TF_CONFIG names a cluster, but trainer.strategy is "
                f"{config.trainer.strategy!r}, which trains on this machine alone",
                "set trainer.strategy to multi_worker, or unset TF_CONFIG",
            )
        )
    return found


def _tensorflow(problems: list[Problem]) -> dict[str, Any]:
    """Returns what TensorFlow says of itself; what it says when it breaks is a problem."""
    try:
        tf = importlib.import_module("tensorflow")
    except Exception as error:  # noqa: BLE001  broken installations raise whatever they come upon
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        problems.append(
            Problem(
                f"TensorFlow cannot be imported ({reason})",
                "install it again: pip install --force-reinstall tensorflow",
                fatal=True,
            )
        )
        return {"imports": False}
    build = tf.sysconfig.get_build_info()
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    if not gpus and (machine.gpus() or machine.gpu_files()):
        problems.append(_unused_gpu(build))
    threads = tf.config.threading
    return {
        "imports": True,
        "cpus": len(tf.config.list_physical_devices("CPU")),
        "gpus": [
            {
                "name": found.get("device_name", "GPU"),
                "compute_capability": ".".join(map(str, found.get("compute_capability", ()))),
            }
            for found in details
        ],
        "built_with_cuda": build.get("cuda_version") if build.get("is_cuda_build") else None,
        "built_with_cudnn": build.get("cudnn_version") if build.get("is_cuda_build") else None,
        # 0 leaves it to TensorFlow.
        "threads_of_an_operation": threads.get_intra_op_parallelism_threads() or _AS_MANY,
        "operations_at_once": threads.get_inter_op_parallelism_threads() or _AS_MANY,
    }


def _unused_gpu(build: Mapping[str, Any]) -> Problem:
    found = "there is an NVIDIA GPU, but TensorFlow does not see it"
    install = "pip install '.[gpu]' in the directory of the project's setup.cfg"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not re.match(r"\s*(\d|GPU-|MIG-)", hidden):
        return Problem(f"{found}: CUDA_VISIBLE_DEVICES is {hidden!r}", "unset it")
    if not build.get("is_cuda_build"):
        return Problem(f"{found}: this TensorFlow was built without CUDA", install)
    missing = [name for name in _CUDA if _version(name) is None]
    if missing:
        return Problem(f"{found}: CUDA's libraries are not there ({', '.join(missing)})", install)
    return Problem(
        f"{found}, although it was built with CUDA {build.get('cuda_version')}",
        "see which library it misses with TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow as "
        "tf; tf.config.list_physical_devices()'; the driver may be too old",
    )


def _choose(config: RunConfig, report: Report) -> None:
    """Asks the trainer's own code what it would choose."""
    from pipeline.training import initialization, precision, settings, strategy

    parameters, gpus = config.trainer, report.found["tensorflow"]["gpus"]
    choices, problems = report.choices, report.problems
    here = len(gpus) or report.found["tensorflow"]["cpus"]
    replicas = 1 if parameters.strategy == strategy.ONE_DEVICE else here
    kind = "GPU" if gpus else "CPU"
    choices["strategy"] = Choice(
        f"{settings.STRATEGIES[parameters.strategy]}, {replicas} × {kind}",
        "as configured; replicas of other workers come on top"
        if parameters.strategy == strategy.MULTI_WORKER
        else "as configured",
    )
    # Where it is left to the recipe, it has many factors.
    if (parameters.batch_size or 0) % replicas:
        problems.append(
            Problem(
                f"trainer.batch_size {parameters.batch_size}: cannot be shared out equally among "
                f"{replicas} replicas",
                f"make it a multiple of {replicas}, or set trainer.strategy to one_device",
                fatal=True,
            )
        )
    try:
        trainer.check(parameters)
        synchronized = parameters.bn_synchronized and replicas > 1
        xla = settings.xla(parameters.xla, bool(gpus), synchronized)
        choices["xla"] = Choice("on" if xla.on else "off", xla.reason)
        if parameters.init_from is not None:
            choices["begins with"] = Choice(
                initialization.described(parameters), initialization.whereabouts(parameters)
            )
    except UsageError as error:
        problems.append(Problem(str(error), "change the configuration", fatal=True))
    found = precision.resolve(parameters.precision)
    choices["precision"] = Choice(found.policy, found.reason)
    asked, price = parameters.deterministic, "speed" if gpus else "next to nothing"
    choices["determinism"] = Choice(
        "on" if (not gpus if asked is None else asked) else "off",
        "as configured" if asked is not None else f"{kind}: it costs {price}",
    )
    cores = report.found["machine"]["cores"]
    more = f"; there are {cores} cores: --workers {cores}" if cores > config.workers else ""
    choices["workers"] = Choice(f"{config.workers}", f"processes that read images{more}")


def show(console: Console, report: Report) -> None:
    """Prints a report for a person."""
    for section, values in report.found.items():
        _table(console, section, [(name, _text(value)) for name, value in values.items()])
    chosen = [(name, f"{one.value}  ({one.reason})") for name, one in report.choices.items()]
    _table(console, "what Trainer would choose", chosen)
    for problem in report.problems:
        style = "bold red" if problem.fatal else "yellow"
        console.print(Text("error: " if problem.fatal else "warning: ", style), end="")
        console.print(Text(problem.found))
        console.print(Text(f"  {problem.advice}"))
    verdict = "A run would work here." if report.works else "A run would not work here."
    console.print(Text(verdict, "bold green" if report.works else "bold red"))


def _table(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, min_width=26)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(f"  {name}", Text(value))
    console.print(Text(title, "bold"))
    console.print(table)
    console.print()


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case dict():
            return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
        case list():
            return "; ".join(map(_text, value)) or "none"
        case _:
            return str(value)


def _gib(size: int) -> float:
    return round(size / _GIB, 1)
