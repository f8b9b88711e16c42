"""InfraValidator: serves the exported model for a moment, and compares its answers with Keras'."""

import itertools
import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline import files
from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import Positive, parameters
from pipeline.records import examples as records
from pipeline.records import manifest, tfrecord
from pipeline.serving.versions import WARMUP

if TYPE_CHECKING:
    from pipeline.serving.trial import Findings

OUTPUTS = {"blessing": "InfraBlessing"}

_SPLIT = "test"
_MIB = 1 << 20


@parameters
class Parameters:
    """How the exported model is tried.

    Args:
        backend: What serves it: `"tensorflow_model_server"`, TF Serving's program on PATH;
            `"docker"`, its image tensorflow/serving; `"c++ loader"`, a process of its own with the
            code by which TF Serving loads models; `"auto"`, the first of these that is there.
            Nothing is downloaded unless Docker is named and has no such image.
        examples: The number of test images that it is asked about.
        tolerance: The greatest difference between a served number and the one that the Keras model
            computes from the same bytes.
        max_batch_size: The largest batch that it is asked, and warmed up for.
        latency_requests: How often each batch size is timed.
        max_loading_seconds: How long starting the server and loading the model, or one answer, may
            take.
        max_p99_ms: The greatest 99th percentile of the milliseconds for one image; None for any.
            With a limit, Evaluator runs before and not beside it.
        max_memory_mb: The most memory that the server may have had, in MiB; None for any.
    """

    backend: Literal["auto", "tensorflow_model_server", "docker", "c++ loader"] = "auto"
    examples: Positive = 16
    tolerance: float = Field(default=1e-5, gt=0.0)
    max_batch_size: Positive = 32
    latency_requests: Positive = 20
    max_loading_seconds: float = Field(default=300.0, gt=0.0)
    max_p99_ms: float | None = Field(default=None, gt=0.0)
    max_memory_mb: float | None = Field(default=None, gt=0.0)


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `INFRA_BLESSED` or `INFRA_NOT_BLESSED`, with what was found, and warmup requests.

    Every signature of the SavedModel is asked with TF Serving's own messages, in a process that
    knows nothing of this package's networks. Answers have to equal what the Keras model of the
    Trainer gives for the same bytes. Refuses when they do not, when a bad image spoils more than
    its own row, and beyond the limits of time and memory.
    """
    from pipeline.serving import servers, trial, warmup

    root = inputs["examples"].uri
    contents = manifest.load(root)
    images = _images(root, contents, parameters.examples)
    model = inputs["model"]
    exported = model.uri / "Format-Serving"
    blessing = outputs["blessing"]
    backend = servers.best() if parameters.backend == "auto" else parameters.backend
    # What cannot be loaded need not be computed by Keras, too.
    context.progress(0, 3, backend=backend)
    requests = warmup.write(blessing.uri / WARMUP, context.name, images, parameters.max_batch_size)
    figures: dict[str, Any] = {}
    findings = trial.Findings()
    begin = time.perf_counter()
    try:
        with servers.serving(exported, backend, parameters.max_loading_seconds) as server:
            figures["loading_seconds"] = round(time.perf_counter() - begin, 3)
            context.progress(1, 3, backend=backend)
            wanted = trial.expected(model, images)
            trying = trial.Trial(server, images, wanted, contents.classes, parameters.tolerance)
            findings = trying.findings
            figures["signatures"] = trial.signatures_of(exported)
            trying.answers(figures["signatures"], parameters.max_batch_size)
            context.progress(2, 3, backend=backend)
            if not findings.reasons:
                for request in requests:
                    server.replay(request)
                sizes = sorted({1, 2, parameters.max_batch_size})
                trying.time(sizes, parameters.latency_requests)
            figures["peak_memory_mb"] = _mebibytes(server.peak_memory())
    except servers.ServerError as error:
        findings.reasons.append(str(error))
    findings.reasons += _beyond(parameters, findings, figures)
    return _outcome(blessing, backend, len(images), findings, figures)


def _images(root, contents: manifest.Manifest, count: int) -> list[bytes]:
    """Returns the first images of the test split, after verifying its shards."""
    manifest.verify(root, contents, (_SPLIT,))
    payloads = itertools.chain.from_iterable(
        tfrecord.read(root / shard.file) for shard in contents.split(_SPLIT).shards
    )
    return [records.parse(payload).encoded for payload in itertools.islice(payloads, count)]


def _mebibytes(size: int | None) -> float | None:
    return None if size is None else round(size / _MIB, 1)


def _beyond(parameters: Parameters, findings: "Findings", figures: dict[str, Any]) -> list[str]:
    """Returns which limits of time and memory do not hold, or cannot be told."""
    reasons = []
    if parameters.max_p99_ms is not None and 1 in findings.latency:
        p99 = findings.latency[1]["p99"]
        if p99 > parameters.max_p99_ms:
            reasons.append(
                f"99 of 100 answers take up to {p99:g} ms; allowed {parameters.max_p99_ms:g}"
            )
    if parameters.max_memory_mb is not None and "peak_memory_mb" in figures:
        memory = figures["peak_memory_mb"]
        if memory is None:
            reasons.append("max_memory_mb is set, and this backend does not tell its memory here")
        elif memory > parameters.max_memory_mb:
            reasons.append(f"the server had {memory:g} MiB; allowed {parameters.max_memory_mb:g}")
    return reasons


def _outcome(
    blessing: Artifact, backend: str, images: int, findings: "Findings", figures: dict[str, Any]
) -> Outcome:
    """Writes the verdict."""
    blessed = not findings.reasons
    blessing.properties.update(blessed=int(blessed), backend=backend)
    files.write_json(
        blessing.uri / ("INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED"),
        {
            "blessed": blessed,
            "reasons": findings.reasons,
            "backend": backend,
            "images": images,
            "max_difference": findings.max_difference,
            "latency_ms": findings.latency,
            **figures,
        },
    )
    if not blessed:
        reasons = "; ".join(findings.reasons)
        return Outcome("not blessed", refusal=f"the exported model is not fit to serve: {reasons}")
    worst, one = max(findings.max_difference.values()), findings.latency[1]
    return Outcome(
        f"{backend}: answers of {len(findings.max_difference)} signatures differ from Keras by at "
        f"most {worst:.1e}; {one['p50']:.1f} ms per image, p99 {one['p99']:.1f}"
    )
