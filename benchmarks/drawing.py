"""A chart of what was measured: how many times as fast ours is, and what was aimed at."""

import io
from typing import Any

from benchmarks import facts

# Okabe and Ito's colours, which can be told apart by eyes that do not tell red from green.
_MET, _MISSED, _NO_AIM = "#0072b2", "#d55e00", "#8c8c8c"
_INK, _FAINT = "#222222", "#d9d9d9"
_TICKS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)
_WIDTH, _ROW, _MARGIN = 9.0, 0.3, 1.5  # inches


def ratios(found: dict[str, Any], kind: str) -> bytes:
    """Returns the chart as a file of `kind`, svg or png; `found` is the whole JSON.

    A bar for each peer that a case was compared with, from 1 to the median of the rounds' ratios;
    a thin line from the least to the greatest; a diamond where the aim is.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = [(one["name"], _bars(one)) for one in found["benchmarks"]]
    groups = [(name, bars) for name, bars in groups if bars]
    rows = sum(len(bars) + 1 for _, bars in groups)
    with matplotlib.rc_context({"svg.hashsalt": "benchmarks", "font.size": 8.5}):
        figure = Figure(figsize=(_WIDTH, _MARGIN + _ROW * max(rows, 2)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, groups)
        figure.suptitle(
            "How many times as fast ours is, units per second", x=0.01, ha="left", fontsize=12
        )
        about = f"{facts.words(found['machine'])} · {found['created'][:10]}"
        figure.supxlabel(about, x=0.01, ha="left", fontsize=7.5, color="#666666")
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, dpi=150, metadata=_metadata(kind))
    return drawn.getvalue()


def _bars(benchmark: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for case in benchmark["cases"]:
        aims = {side["name"]: side for side in case["sides"]}
        for compared in case["comparisons"]:
            side = aims[compared["side"]]
            aim, by = side["aim"], "ratio"
            if aim is not None and aim["by"] == "cpu":
                by = "cpu_ratio"
            found.append(
                {
                    "label": f"{case['name']}  /  {compared['side']}",
                    "aim": aim["ratio"] if aim is not None else None,
                    "met": None if side["verdict"] is None else side["verdict"]["met"],
                    **compared[by],
                }
            )
    return found


def _draw(axes: Any, groups: list[tuple[str, list[dict[str, Any]]]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axes.set_xscale("log", base=2)
    row, labels, least, greatest = 0, [], 1.0, 1.0
    for name, bars in groups:
        labels.append((row, name, True))
        row += 1
        for bar in bars:
            labels.append((row, bar["label"], False))
            color = {True: _MET, False: _MISSED, None: _NO_AIM}[bar["met"]]
            axes.barh(row, bar["median"] - 1, left=1, height=0.62, color=color, zorder=2)
            axes.plot([bar["low"], bar["high"]], [row, row], color=_INK, linewidth=0.9, zorder=3)
            if bar["aim"] is not None:
                style = {"marker": "D", "markersize": 5, "markeredgecolor": _INK, "zorder": 4}
                axes.plot(bar["aim"], row, markerfacecolor="white", linestyle="none", **style)
            end = max(bar["high"], bar["aim"] or 0, 1)
            axes.annotate(
                f"{bar['median']:.2f}",
                (end, row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
            )
            least = min(least, bar["low"], bar["aim"] or 1)
            greatest = max(greatest, end)
            row += 1
    axes.axvline(1, color=_INK, linewidth=0.8, zorder=1)
    axes.set_ylim(row - 0.4, -0.6)
    # Room for the numbers on the right.
    axes.set_xlim(min(0.8, least / 1.1), max(1.5, greatest * (greatest / least) ** 0.12 * 1.1))
    axes.set_yticks([number for number, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, is_name) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if is_name else "normal")
    low, high = axes.get_xlim()
    axes.set_xticks([value for value in _TICKS if low <= value <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color=_FAINT, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _legend(axes)


def _legend(axes: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    diamond = Line2D(
        [], [], marker="D", linestyle="none", markerfacecolor="white", markeredgecolor=_INK
    )
    handles = [Patch(color=color) for color in (_MET, _MISSED, _NO_AIM)]
    axes.legend(
        [*handles, diamond],
        ["aim met", "aim missed", "no aim", "aim"],
        ncols=4,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        fontsize=8,
        handlelength=1.2,
        columnspacing=1.4,
    )


def _metadata(kind: str) -> dict[str, None]:
    """Returns what keeps the time out of a file, so that the same figures make the same bytes."""
    return {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
