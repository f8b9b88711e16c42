"""Pictures and tables of a training, for TensorBoard."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from keras_resnet.analysis import GradientFlow

# Up to so many classes, cells have their counts and axes their names.
_WITH_COUNTS = 12
NAMED = 30
_LONGEST = 20  # characters of a name
# Inches: a cell, all of them at most, what is around them, and a letter of a name.
_CELL, _LARGEST, _MARGIN, _EDGE, _LETTER = 0.45, 6.0, 0.6, 0.1, 0.09
_DPI = 100
_GAP = 2  # pixels between the images of a grid
_LEAST_SIZE = 96  # pixels of an image in a grid
# Inches of the picture of the gradient flow: its height, its width, that of a block.
_FLOW_HEIGHT, _FLOW_WIDTH, _FLOW_BLOCK = 4.2, (4.5, 12.0), 0.16


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


def gradient_flow(flow: "GradientFlow") -> "Figure":
    """Draws the blocks from the input to the output: above, how much of the gradient comes through
    the shortcut and how much through the branch; below, the norm of the gradient at their inputs.

    Args:
        flow: Of a network with blocks.
    """
    from matplotlib.figure import Figure

    blocks, places = flow.blocks, np.arange(len(flow.blocks))
    least, most = _FLOW_WIDTH
    width = min(most, max(least, 1.5 + _FLOW_BLOCK * len(blocks)))
    figure = Figure((width, _FLOW_HEIGHT), dpi=_DPI, layout="constrained")
    shares, norms = figure.subplots(2, 1, sharex=True)
    through_shortcut = np.nan_to_num([block.shortcut_share for block in blocks])
    through_branch = np.nan_to_num([block.branch_share for block in blocks])
    shares.bar(places, through_shortcut, 0.9, color="tab:blue", label="shortcut")
    shares.bar(places, through_branch, 0.9, through_shortcut, color="tab:orange", label="branch")
    shares.set_ylim(0, 1)
    shares.set_ylabel("share of gradient")
    shares.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    norms.plot(places, [block.norm for block in blocks], "o-", color="black", markersize=3)
    if any(block.norm > 0 for block in blocks):
        norms.set_yscale("log")
    norms.set_ylabel("‖dL/dx‖")
    stages = [block.stage for block in blocks]
    starts = [place for place in places if place == 0 or stages[place] != stages[place - 1]]
    for axes in (shares, norms):
        for start in starts[1:]:
            axes.axvline(start - 0.5, color="gray", linewidth=0.8, linestyle=":")
    norms.set_xticks(starts, [stages[start] for start in starts], ha="left", parse_math=False)
    norms.set_xlim(-0.6, len(blocks) - 0.4)
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
