"""Draws a chart as SVG: a mean for each curve, and a band from the least seed to the greatest."""

import io
import re

import numpy as np

from studies.report import Chart

# Okabe and Ito's colours, which can be told apart by eyes that do not tell red from green.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a7a00")
_SIZE = (6.4, 3.9)


def svg(chart: Chart) -> str:
    """Returns a chart as an SVG element."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.name}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for number, line in enumerate(chart.lines):
            values = np.array(line.seeds, dtype=float)
            chosen = number if line.color is None else line.color
            style = {
                "color": PALETTE[chosen % len(PALETTE)],
                "linestyle": "--" if line.dashed else "-",
                "marker": "o" if chart.points else None,
                "markersize": 4,
            }
            axes.plot(line.x, values.mean(axis=0), label=line.label, **style)
            if len(values) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(line.x, low, high, color=style["color"], alpha=0.18, linewidth=0)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
        if chart.logarithmic:
            axes.set_yscale("log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"^.*?(?=<svg)", "", drawn.getvalue(), flags=re.DOTALL)
