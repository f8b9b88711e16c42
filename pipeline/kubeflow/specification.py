"""Compiles the graph of a run for Kubeflow Pipelines v2: one container step per component."""

import copy
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import api, files
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.kubeflow import step
from pipeline.orchestration import graph

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

# Where the volume is that all steps share; as with `launch --kubernetes`.
DIRECTORY = "/srv/pipeline"

# A pod may be moved from its machine; Trainer then goes on from its last checkpoint.
_RETRIES = 2
_GPU = "nvidia.com/gpu"


def write(
    config: RunConfig,
    modules: Mapping[str, str],
    path: Path,
    image: str,
    claim: str | None,
    gpus: int = 0,
) -> list[str]:
    """Writes the specification and returns the names of its steps, in the order of the graph.

    The steps run `python -m pipeline run --only COMPONENT`, and share the pipeline root: what a
    component reads, and what need not run again, is found there as on one machine. Kubeflow's own
    cache, which knows nothing of code, is off. Configuration, modules and working directory are
    parameters of the pipeline, and may be changed when it is started.

    Args:
        config: What is to run.
        modules: Path to source of modules that the steps need and the image does not have.
        path: A `.yaml` file.
        image: With this package and its extras `pipeline` and `kfp`.
        claim: The PersistentVolumeClaim that is mounted at `DIRECTORY`; None for none.
        gpus: That Trainer, and Tuner, ask for.

    Raises:
        UsageError: The extra `kfp` is not installed.
    """
    try:
        from kfp import compiler, dsl, kubernetes
    except ImportError as error:
        raise UsageError(
            f"--to kfp: {error}; expected the extra kfp: pip install '.[kfp]' in the directory of "
            "the project's setup.cfg"
        ) from None
    nodes = graph.build(config)
    component = dsl.component(step.run_component, base_image=image, install_kfp_package=False)

    # In one line each: kfp repeats them in a comment, and breaks its file at the end of a line.
    configured, sources = json.dumps(api.effective(config)), json.dumps(dict(modules))

    @dsl.pipeline(name=name_of(config.name), description=f"python -m pipeline run {config.name}")
    def run(
        configuration: str = configured, modules: str = sources, directory: str = DIRECTORY
    ) -> None:
        tasks: dict[str, PipelineTask] = {}
        for node in nodes:
            task = _named(component, name_of(node.name))(
                component=node.name,
                configuration=configuration,
                modules=modules,
                directory=directory,
            )
            task.after(*(tasks[name] for name in node.depends_on))
            task.set_caching_options(False)
            task.set_retry(_RETRIES, backoff_duration="30s")
            if claim is not None:
                kubernetes.mount_pvc(task, pvc_name=claim, mount_path=DIRECTORY)
            if gpus and node.name in ("Trainer", "Tuner"):
                task.set_accelerator_type(_GPU).set_accelerator_limit(gpus)
            tasks[node.name] = task

    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(run, str(compiled))
        files.write_bytes(path, compiled.read_bytes())
    return [node.name for node in nodes]


def name_of(name: str) -> str:
    """Returns a name as Kubernetes takes it: `ExampleGen` becomes `example-gen`."""
    hyphened = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9]+", "-", hyphened).strip("-")


def _named(component: Any, name: str) -> Any:
    """Returns the component under another name, so that each step has that of its component."""
    named = copy.deepcopy(component)
    named.name = named.component_spec.name = name
    return named
