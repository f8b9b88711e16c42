"""The studies by name, in the order of the story."""

from studies.chapters import (
    bottleneck,
    degradation,
    gradient_flow,
    lesion,
    pooling,
    reproduction,
    shortcuts,
    squeeze_excitation,
    stochastic_depth,
    wide_vs_deep,
)
from studies.report import Study

STUDIES: dict[str, Study] = {
    chapter.STUDY.name: chapter.STUDY
    for chapter in (
        degradation,
        gradient_flow,
        bottleneck,
        wide_vs_deep,
        squeeze_excitation,
        stochastic_depth,
        pooling,
        shortcuts,
        lesion,
        reproduction,
    )
}
