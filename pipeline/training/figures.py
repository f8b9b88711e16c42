"""Pictures and tables of a training, for TensorBoard."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to so many classes, cells have their counts and axes their names.
_WITH_COUNTS = 12
NAMED = 30
_LONGEST = 20  # characters of a name
# Inches: a cell, all of them at most, what is around them, and a letter of a name.
_CELL, _LARGEST, _MARGIN, _EDGE, _LETTER = 0.45, 6.0, 0.6, 0.1, 0.09
_DPI = 100
_GAP = 2  # pixels between the images of a grid
_LEAST_SIZE = 96  # pixels of an image in a grid


def grid(images: np.ndarray) -> np.ndarray:
    """Returns images beside and below each other in a square, as one; small ones are enlarged.

    Args:
        images: uint8 of shape (number, height, width, 3).

    Returns:
        uint8 of shape (height, width, 3).
    """
    number, height, width, _ = images.shape
    times = -(-_LEAST_SIZE // max(height, width))
    images = images.repeat(times, axis=1).repeat(times, axis=2)
    columns = int(np.ceil(np.sqrt(number)))
    rows = -(-number // columns)
    tall, wide = height * times + _GAP, width * times + _GAP
    whole = np.full((rows * tall - _GAP, columns * wide - _GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * tall, place % columns * wide
        whole[top : top + tall - _GAP, left : left + wide - _GAP] = image
    return whole


def confusion(counts: np.ndarray, classes: tuple[str, ...]) -> "Figure":
    """Draws a confusion matrix: rows are true classes, columns what was predicted, and a cell is
    the darker the greater its share of the row is. Cells of nothing stay empty.

    Args:
        counts: Number of images, shape (classes, classes).
        classes: Their names, which are written beside it where there are few.
    """
    from matplotlib.figure import Figure

    number = len(classes)
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in classes]
    named = number <= NAMED
    margin = _MARGIN + (_LETTER * max(map(len, names)) if named else 0.0)
    inner = min(_LARGEST, max(2, number) * _CELL)
    side = margin + inner + _EDGE
    figure = Figure((side, side), dpi=_DPI)
    axes = figure.add_axes((margin / side, _EDGE / side, inner / side, inner / side))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.matshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.tick_params(bottom=False)
    axes.set_xlabel("predicted")
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("true")
    if named:
        axes.set_xticks(range(number), names, rotation=90, parse_math=False)
        axes.set_yticks(range(number), names, parse_math=False)
    if number <= _WITH_COUNTS:
        style = {"ha": "center", "va": "center", "size": 10 if counts.max() < 1e4 else 7}
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), color=color, **style)
    return figure


def pixels(figure: "Figure") -> np.ndarray:
    """Returns a figure as uint8 of shape (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # that the font lacks, in a class's name
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def worst_pairs(counts: np.ndarray, classes: tuple[str, ...], number: int = 20) -> str:
    """Returns the classes that are confused most often as a table in Markdown.

    Args:
        counts: Number of images by true and by predicted class.
        classes: Their names.
        number: Greatest number of rows.
    """
    wrong = counts - np.diag(np.diag(counts))
    totals = counts.sum(axis=1)
    lines = ["| true | predicted | images | of this class |", "| --- | --- | --- | --- |"]
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:number]:
        true, predicted = divmod(int(cell), len(classes))
        if not wrong[true, predicted]:
            break
        share = wrong[true, predicted] / totals[true]
        names = " | ".join(name.replace("|", "\\|") for name in (classes[true], classes[predicted]))
        lines.append(f"| {names} | {wrong[true, predicted]:,} | {share:.1%} |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing is confused."
