"""The studies by name, in the order of the story."""

from studies.chapters import bottleneck, degradation, gradient_flow
from studies.report import Study

STUDIES: dict[str, Study] = {
    study.name: study for study in (degradation.STUDY, gradient_flow.STUDY, bottleneck.STUDY)
}
