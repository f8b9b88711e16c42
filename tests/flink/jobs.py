"""The four components, on whichever engine, on the same images."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.bulk import job
from pipeline.components import evaluator, example_gen, statistics_gen
from pipeline.engine import FLINK, LOCALLY, Engine
from pipeline.evaluation.thresholds import Thresholds
from pipeline.orchestration.artifact import Artifact, Context

# What says when and how long, or is drawn.
_VARYING = ("summary.json", "evaluation.html")


def engine(cluster, parallelism: int, **others) -> Engine:
    """Returns the cluster as the place to compute."""
    return Engine(runner=FLINK, options=cluster.options(parallelism) | others)


@dataclass(frozen=True)
class Jobs:
    """Runs components below a folder.

    Args:
        folder: Receives what they write.
        engine: Where Beam computes.
    """

    folder: Path
    engine: Engine = LOCALLY

    def ingest(self, data: Path | str, context: Context | None = None) -> Path:
        """Returns the Examples of `data`."""
        found = self._artifact("examples")
        parameters = example_gen.Parameters(source=str(data), shards=3, max_bad_fraction=1.0)
        example_gen.run({}, {"examples": found}, parameters, context or self.context())
        return found.uri

    def statistics(self, examples: Path) -> Path:
        """Returns the ExampleStatistics of Examples."""
        found = self._artifact("statistics")
        statistics_gen.run(
            {"examples": Artifact("Examples", examples)},
            {"statistics": found},
            statistics_gen.Parameters(),
            self.context(),
        )
        return found.uri

    def evaluate(self, examples: Path, model: Path) -> Path:
        """Returns the ModelEvaluation of a Model artifact."""
        found, blessing = self._artifact("evaluation"), self._artifact("blessing")
        evaluator.run(
            {"examples": Artifact("Examples", examples), "model": Artifact("Model", model)},
            {"evaluation": found, "blessing": blessing},
            evaluator.Parameters(thresholds=Thresholds(accuracy=0.0), batch_size=8),
            self.context(),
        )
        return found.uri

    def infer(self, data: Path | str, model: Path) -> Path:
        """Returns the directory of predictions."""
        found, name = job.model_of(model)
        request = job.Request(str(data), found, name, shard_size=5)
        job.run(request, self.folder / "predictions", self.context())
        return self.folder / "predictions"

    def context(self) -> Context:
        """Returns what the components may use."""
        return Context("jobs", engine=self.engine)

    def _artifact(self, name: str) -> Artifact:
        uri = self.folder / name
        uri.mkdir(parents=True)
        return Artifact(name, uri)


def content(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of each file of a folder, by its path from there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _VARYING
    }
