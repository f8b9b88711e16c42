"""The studies by name, in the order of the story."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.report import Study

# Here, and not with the studies, so that they can be named without Keras.
TITLES = {
    "degradation": "Deeper plain networks train worse, and the shortcut repairs it",
    "gradient-flow": (
        "With shortcuts the gradient changes far less on its way back to the first layers"
    ),
    "bottleneck": "The bottleneck makes depth affordable",
    "wide-vs-deep": "Width can replace depth, and is faster",
    "squeeze-excitation": "Squeeze-and-excitation lowers the error at hardly any cost",
    "stochastic-depth": "Skipping blocks at random saves training time and lowers the error",
    "pooling": "Max-pooling or a strided convolution: next to no difference",
    "shortcuts": "Which shortcut, and in which order convolution, batch norm and ReLU",
    "lesion": "Residual networks stand the loss of blocks, plain ones do not",
    "reproduction": "The papers' networks by the papers' recipes reach the papers' errors",
}


class _Studies(Mapping[str, "Study"]):
    """Loads the module of a study, and Keras with it, when the study is asked for."""

    def __getitem__(self, name: str) -> "Study":
        if name not in TITLES:
            raise KeyError(name)
        return import_module(f"studies.chapters.{name.replace('-', '_')}").STUDY

    def __iter__(self) -> Iterator[str]:
        return iter(TITLES)

    def __len__(self) -> int:
        return len(TITLES)


STUDIES: Mapping[str, "Study"] = _Studies()
