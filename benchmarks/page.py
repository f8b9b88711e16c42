"""What was measured, as text for the terminal and as Markdown."""

from collections.abc import Sequence
from typing import Any

from benchmarks import facts
from benchmarks.results import MEASURED

_HEADER = ("side", "", "spread", "CPU", "memory", "ours, times as fast", "by CPU time")


def duration(seconds: float) -> str:
    """Returns a time for a person: `45 s`, `3 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def seconds(value: float) -> str:
    """Returns a short time with its unit: `12.3 s`, `4.5 ms`, `67 µs`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(value) >= size:
            return f"{_number(value / size)} {unit}"
    return f"{_number(value / 1e-6)} µs"


def case_lines(case: dict[str, Any]) -> list[str]:
    """Returns the table of a case, and a line for each aim, side without figures, and note."""
    rows = [list(_header(case)), *(_row(case, side) for side in case["sides"] if side["summary"])]
    shown = [column for column in zip(*rows, strict=True) if any(column[1:])]
    lines = []
    if len(rows) > 1:
        widths = [max(map(len, column)) for column in shown]
        for row in zip(*shown, strict=True):
            line = "  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True))
            lines.append(line.rstrip())
    return lines + _remarks(case)


def markdown(found: dict[str, Any]) -> str:
    """Returns a page of what was measured; `found` is the whole JSON."""
    lines = ["# Measured", "", *_about(found), *_aims(found)]
    for benchmark in found["benchmarks"]:
        lines += ["", f"## {benchmark['name']}", "", benchmark["question"]]
        for case in benchmark["cases"]:
            lines += ["", f"### {case['name']}", ""]
            rows = [_row(case, side) for side in case["sides"] if side["summary"]]
            if rows:
                table = [list(_header(case)), *rows]
                kept = [column for column in zip(*table, strict=True) if any(column[1:])]
                for number, row in enumerate(zip(*kept, strict=True)):
                    lines.append(f"| {' | '.join(row)} |")
                    if number == 0:
                        lines.append(f"|{' --- |' * len(kept)}")
                lines.append("")
            lines += [f"- {remark}" for remark in _remarks(case)]
            if lines[-1] == "":
                lines.pop()
    return "\n".join(lines) + "\n"


def _about(found: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    commit = found["commit"]
    of = ""
    if commit is not None:
        changed = " with uncommitted changes" if commit["changed"] else ""
        of = f" Commit {commit['hash'][:12]}{changed}."
    begin, end = (found["load"][when][0] for when in ("begin", "end"))
    lines = [
        f"On {facts.words(found['machine'])}; {found['machine']['system']}.",
        f"{versions}.{of}",
        f"{found['created']}, {duration(found['seconds'])}; load {begin} at first, {end} at last.",
    ]
    if found["quick"]:
        lines.append("Quick form: one round without warm-up; the figures say little.")
    if not found["complete"]:
        lines.append("Interrupted: what follows was measured until then.")
    return lines


def verdicts(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Returns each side that has an aim and a verdict on it, behind where it is."""
    return [
        (f"{benchmark['name']}, {case['name']}", side)
        for benchmark in found["benchmarks"]
        for case in benchmark["cases"]
        for side in case["sides"]
        if side["verdict"] is not None
    ]


def last_lines(found: dict[str, Any]) -> list[str]:
    """Returns how many aims were met, and a line for each that was missed."""
    told = verdicts(found)
    if not told:
        return []
    missed = [f"  {where}: {_verdict(side)}" for where, side in told if not side["verdict"]["met"]]
    return [f"{len(told) - len(missed)} of {len(told)} aims met", *missed]


def _aims(found: dict[str, Any]) -> list[str]:
    """Returns a table of all that was aimed at."""
    told = verdicts(found)
    if not told:
        return []
    lines = ["", "## Aims", "", "| where | aim |", "| --- | --- |"]
    return lines + [f"| {where} | {_verdict(side)} |" for where, side in told]


def _header(case: dict[str, Any]) -> Sequence[str]:
    shown = f"{case['unit']}/s" if case["show"] == "rate" else "time"
    figures = _figures(case)
    return (_HEADER[0], shown, *_HEADER[2:5], "GPU memory", *figures, *_HEADER[5:])


def _figures(case: dict[str, Any]) -> list[str]:
    return list(
        dict.fromkeys(
            name for side in case["sides"] if side["summary"] for name in side["summary"]["figures"]
        )
    )


def _row(case: dict[str, Any], side: dict[str, Any]) -> list[str]:
    found = side["summary"]
    rate = case["show"] == "rate"
    main = found["rate" if rate else "wall"]
    shown = _number if rate else seconds
    compared = next((one for one in case["comparisons"] if one["side"] == side["name"]), None)
    figures = [
        _number(found["figures"][name]["median"]) if name in found["figures"] else ""
        for name in _figures(case)
    ]
    return [
        side["name"],
        shown(main["median"]),
        f"{shown(main['low'])} to {shown(main['high'])}",
        seconds(found["cpu"]["median"]),
        _bytes(found["memory"]),
        "" if found["gpu_memory"] is None else _bytes(found["gpu_memory"]),
        *figures,
        "" if compared is None else _ratio(compared["ratio"]),
        "" if compared is None else _ratio(compared["cpu_ratio"]),
    ]


def _remarks(case: dict[str, Any]) -> list[str]:
    lines = []
    for side in case["sides"]:
        if side["status"] != MEASURED:
            lines.append(f"{side['name']}: {side['status']}: {side['reason']}")
        if side["verdict"] is not None:
            lines.append(_verdict(side))
    return lines + ([case["note"]] if case["note"] else [])


def _verdict(side: dict[str, Any]) -> str:
    verdict, aim = side["verdict"], side["aim"]
    met = "met" if verdict["met"] else "missed"
    by = " of CPU time" if aim["by"] == "cpu" else ""
    if aim["ratio"] is not None:
        what = "CPU time: " if by else ""
        return (
            f"aim {met}: {what}{_number(verdict['found'])} times {side['name']}, "
            f"wanted at least {_number(verdict['wanted'])}"
        )
    found, wanted = seconds(verdict["found"]), seconds(verdict["wanted"])
    if aim["seconds"] is not None:
        return f"aim {met}: {found}{by}, wanted at most {wanted}"
    return f"aim {met}: {found}{by} more than {side['name']}, wanted at most {wanted} more"


def _ratio(spread: dict[str, float]) -> str:
    low, high = _number(spread["low"]), _number(spread["high"])
    middle = _number(spread["median"])
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    """Returns three figures, or all before the point."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
