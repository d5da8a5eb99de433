# SPDX-License-Identifier: BSD-3-Clause
"""Makes tables and plots of the figures."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bars import BARS

Results = dict[str, Any]
Measured = dict[str, Any]  # group, cell, unit, more_is_better, figures by competitor: those of each round


def ratios(cell: Measured, competitor: str) -> list[float]:
    """How many times as good as that competitor ours is, in each round."""
    unit = cell["unit"]
    pairs = zip(cell["figures"]["ours"], cell["figures"][competitor])
    both = [(ours[unit], theirs[unit]) for ours, theirs in pairs]
    return [ours / theirs if cell["more_is_better"] else theirs / ours for ours, theirs in both]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def middle(cell: Measured, competitor: str, unit: str) -> float:
    return float(median(figures[unit] for figures in cell["figures"][competitor]))


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def group_table(cells: list[Measured]) -> str:
    """The medians of each competitor, and ours in proportion to the others."""
    names = list(dict.fromkeys(name for cell in cells for name in cell["figures"]))
    others = [name for name in names if name != "ours"] if "ours" in names else []
    rows = []
    for cell in cells:
        figures = cell["figures"]
        medians = [number(middle(cell, name, cell["unit"])) if name in figures else "" for name in names]
        rows.append([f"{cell['cell']}, {cell['unit']}", *medians,
                     *(spread(ratios(cell, name)) if name in figures else "" for name in others)])
    return table(["", *names, *(f"ours × {name}" for name in others)], rows)


def detail_table(cells: list[Measured]) -> str:
    """Latencies and processor time, of ours and of what it is to replace."""
    units = ["p50 µs", "p99 µs", "CPU µs/request", "MB/s"]
    rows = [[cell["cell"], *(" / ".join(number(middle(cell, name, unit)) for name in ("ours", "python"))
                             for unit in units)] for cell in cells]
    return table(["ours / python", *units], rows)


def bars_table(cells: list[Measured]) -> str:
    found = {(cell["group"], cell["cell"]): cell for cell in cells}
    rows = []
    for group, name, competitor, least in BARS:
        if cell := found.get((group, name)):
            values = ratios(cell, competitor)
            verdict = "yes" if median(values) >= least else "**no**"
            rows.append([f"{group}: {name}", competitor, f"{least:.2f}", spread(values), verdict])
    return table(["", "against", "at least", "median (min to max)", "met"], rows)


def markdown(results: Results) -> str:
    cells = results["cells"]
    text = "<!-- SPDX-License-Identifier: BSD-3-Clause -->\n# Figures\n\nMade by `./test benchmarks`. "
    text += f"{results['rounds']} rounds, {results['date']}. {results['versions']}\n\n{bars_table(cells)}"
    for group in dict.fromkeys(cell["group"] for cell in cells):
        inside = [cell for cell in cells if cell["group"] == group]
        text += f"\n### {group}\n\n{group_table(inside)}"
        if "p50 µs" in inside[0]["figures"]["ours" if "ours" in inside[0]["figures"] else "floor"][0]:
            text += f"\n{detail_table(inside)}"
    return text


def plots(results: Results, folder: Path) -> None:
    """ratios.svg: requests per second beside the others'. calls.svg: nanoseconds of a callback."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "the same file for the same figures"
    for file, groups, others in (("ratios", ("parallel", "serialize_all_requests"), ("python", "memory")),
                                 ("calls", ("no-op",), ("python", "floor"))):
        cells = [cell for cell in results["cells"] if cell["group"] in groups and "python" in cell["figures"]]
        if cells:
            draw(cells, others, folder / f"{file}.svg")


def draw(cells: list[Measured], others: tuple[str, ...], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(cells) + 1.2))
    height = 0.8 / len(others)
    for i, other in enumerate(others):
        for row, cell in enumerate(cells):
            if other in cell["figures"]:
                values = ratios(cell, other)
                axes.barh(row + i * height, median(values), height, color=f"C{i}",
                          xerr=[[median(values) - min(values)], [max(values) - median(values)]],
                          label=f"ours × {other}" if row == 0 else None)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(cells))],
                    [f"{cell['cell']}" + (" (default model)" if cell["group"].startswith("serialize") else "")
                     for cell in cells])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as good (median, least and most of the rounds)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
