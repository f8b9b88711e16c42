"""Where the Beam parts of a run are computed: in this process, or on a cluster through a runner."""

import re
from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from pipeline.parameters import NonEmpty, parameters

# Beam's default, DirectRunner, downloads a binary at run time; this one is part of Beam.
LOCAL = "FnApiRunner"
FLINK, SPARK, DATAFLOW, PORTABLE = "FlinkRunner", "SparkRunner", "DataflowRunner", "PortableRunner"
RUNNERS = (LOCAL, FLINK, SPARK, DATAFLOW, PORTABLE)

EXTERNAL, PROCESS, DOCKER, LOOPBACK = "EXTERNAL", "PROCESS", "DOCKER", "LOOPBACK"
# Masters of Flink that mean: a cluster within the job server, on this machine, for this job.
EMBEDDED = ("[local]", "[auto]")

_REFUSED = {
    "DaskRunner": "it drops tagged outputs, so that images would be lost without a word",
    "DirectRunner": f"it may download a binary when it starts; {LOCAL} does the same without",
    "BundleBasedDirectRunner": f"{LOCAL} does the same faster",
    "InteractiveRunner": "it keeps every intermediate result",
    "PrismRunner": f"it downloads a binary when it starts; {LOCAL} computes on this machine without",
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Set by what else is configured.
_OWN = {"runner": "beam.runner", "job_name": "name", "direct_num_workers": "workers"}

# Text stays text: a number that became another would not be what Beam was to be told.
Value = StrictBool | StrictInt | StrictFloat | str | list[str]


@parameters
class Engine:
    """Where Beam computes, and what it is told; no result depends on it.

    On a cluster, what is read and written has to be where every worker sees it: paths on a shared
    file system, at the same place everywhere, or, for the images alone, URIs.

    Args:
        runner: `FnApiRunner`, this process; `FlinkRunner`; or `SparkRunner`, `DataflowRunner` and
            `PortableRunner`, which Beam has, too, and which nobody has tried with this pipeline.
        options: Beam's own options for it by name, such as `flink_master: "flink:8081"`,
            `parallelism: 8`, `environment_type: EXTERNAL`.
    """

    runner: str = LOCAL
    options: dict[NonEmpty, Annotated[Value, Field(union_mode="left_to_right")]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _complete(self) -> "Engine":
        if self.runner not in RUNNERS:
            why = f": {_REFUSED[self.runner]}" if self.runner in _REFUSED else ""
            raise ValueError(f"runner {self.runner!r}{why}; expected one of {', '.join(RUNNERS)}")
        for name in self.options:
            _require_name(name)
        if self.is_local and self.options:
            raise ValueError(
                f"options: {LOCAL} takes none, found {', '.join(sorted(self.options))}; the number "
                "of processes is `workers`, and options of a cluster go with its runner"
            )
        if self.runner in (FLINK, SPARK):
            self._require_environment()
        return self

    @property
    def is_local(self) -> bool:
        """Whether the work is done in this process and its own workers."""
        return self.runner == LOCAL

    @property
    def flags(self) -> list[str]:
        """The options as Beam's command line has them."""
        flags = []
        for name, value in self.options.items():
            if value is True:
                flags.append(f"--{name}")
            elif value is not False:
                values = value if isinstance(value, list) else [value]
                flags += [f"--{name}={one}" for one in values]
        return flags

    @property
    def master(self) -> str:
        """The address of Flink's job manager, or what means a cluster within the job server."""
        return str(self.options.get("flink_master", EMBEDDED[-1]))

    def _require_environment(self) -> None:
        """Refuses what would end in an image of Beam's own, which does not have this package."""
        kind = str(self.options.get("environment_type", "")).upper()
        config = self.options.get("environment_config")
        if self.runner == FLINK and self.master in EMBEDDED and kind in ("", LOOPBACK):
            return
        wanted = {
            EXTERNAL: "environment_config=HOST:PORT of `python -m pipeline worker-pool`",
            PROCESS: 'environment_config={"command": ".../bin/keras-resnet-worker"}',
            DOCKER: "environment_config=IMAGE with this package in it",
        }
        if kind == LOOPBACK or (kind in wanted and config):
            return
        if kind in wanted:
            raise ValueError(f"options: environment_type {kind} needs {wanted[kind]}")
        found = f"found environment_type {kind}" if kind else "found no environment_type"
        choice = "; ".join(f"{name} with {config}" for name, config in wanted.items())
        raise ValueError(
            f"options: {self.runner} starts Python workers, which need this package: {found}, "
            f"expected one of {choice}"
        )


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"options: {name!r} is no name of an option; expected one such as flink_master, "
            "without dashes"
        )
    if name in _OWN:
        raise ValueError(f"options: {name} is set by {_OWN[name]}")


LOCALLY = Engine()
