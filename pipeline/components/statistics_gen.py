"""StatisticsGen: what the examples of each split look like, as TensorFlow Metadata protos."""

from pipeline.orchestration.artifact import Artifact, Context, Outcome
from pipeline.parameters import parameters
from pipeline.records import manifest

OUTPUTS = {"statistics": "ExampleStatistics"}


@parameters
class Parameters:
    """StatisticsGen has no parameters."""


def run(
    inputs: dict[str, Artifact],
    outputs: dict[str, Artifact],
    parameters: Parameters,
    context: Context,
) -> Outcome:
    """Writes `Split-<name>/FeatureStats.pb`, a binary `DatasetFeatureStatisticsList`, per split."""
    from pipeline.beam import statistics

    root = inputs["examples"].uri
    contents = manifest.load(root)
    manifest.verify(root, contents)
    artifact = outputs["statistics"]
    statistics.run(root, contents, artifact.uri, context.progress)
    artifact.properties.update(inputs["examples"].properties)
    return Outcome(f"{contents.examples:,} examples in {len(contents.splits)} splits")
