"""Pictures of a report: curves, bars with intervals, calibration, histograms, horizontal bars.

Equal numbers give equal bytes. Drawn by matplotlib's Agg canvas, without pyplot and its global state. Labels may be any text
(a domain of the web): they are shown as they are, never read as mathematics. Left out on purpose: interactive charts.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from dsm_jax.evaluate.scores import Interval
from dsm_jax.run import atomic

COLORS = ("#2563eb", "#ea580c", "#059669", "#7c3aed", "#db2777", "#64748b", "#ca8a04", "#0891b2")
MAX_LABEL = 40  # characters
CROWDED = 70  # characters of all labels under bars: more are written slanted
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": "#475569",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#e2e8f0",
    "text.color": "#1e293b",
    "xtick.color": "#475569",
    "ytick.color": "#475569",
}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Picture:
    """A PNG and the line under it, which is also its alternative text."""

    png: bytes
    caption: str


def save(pictures: Mapping[str, Picture], folder: Path) -> None:
    """Writes each as NAME.png, for pages that are not a report."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        with atomic(folder / f"{name}.png") as path:
            path.write_bytes(picture.png)


def metric_points(rows: Iterable[Mapping[str, Any]], column: str) -> list[tuple[float, float]]:
    """(step, value) of each row of a metrics.jsonl that has the column."""
    return [(row["step"], row[column]) for row in rows if row.get(column) is not None]


def curves(caption: str, series: Mapping[str, Points], *, xlabel: str = "step", ylabel: str = "") -> Picture:
    """One curve per series: faint as measured, bold as a running mean over a twentieth of its points."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2))
        axes = figure.subplots()
        for color, (name, points) in zip(_colors(series), series.items(), strict=True):
            x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
            smooth = _running_mean(y, max(1, len(y) // 20))
            if len(y) >= 40:
                axes.plot(x, y, color=color, alpha=0.25, linewidth=0.8)
            axes.plot(x, smooth, color=color, linewidth=1.8, label=_label(name))
        axes.grid(axis="y")
        axes.set_xlabel(_label(xlabel))
        axes.set_ylabel(_label(ylabel))
        if len(series) > 1:
            axes.legend(frameon=False)
        return _picture(figure, caption)


def bands(
    caption: str,
    series: Mapping[str, Sequence[Points]],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    log_x: bool = False,
) -> Picture:
    """The mean of several runs' curves, which have the same x, and the band between their least and largest values."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2))
        axes = figure.subplots()
        for color, (name, runs) in zip(_colors(series), series.items(), strict=True):
            x = [point[0] for point in runs[0]]
            y = np.array([[point[1] for point in run] for run in runs])
            axes.plot(x, y.mean(axis=0), color=color, linewidth=1.8, marker=".", label=_label(name))
            axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=color, alpha=0.15, linewidth=0)
        axes.grid(axis="y")
        if log_x:
            axes.set_xscale("log", base=2)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(_label(xlabel))
        axes.set_ylabel(_label(ylabel))
        axes.legend(frameon=False)
        return _picture(figure, caption)


def interval_bars(
    caption: str, groups: Mapping[str, Mapping[str, Interval]], *, ylabel: str = "accuracy"
) -> Picture:
    """Vertical bars with 95% intervals: in each group a bar for each series; shares in 0..1."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / max(1, len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(6.4, 1.0 + 0.25 * len(names) * len(groups)), 3.2))
        axes = figure.subplots()
        for index, (color, name) in enumerate(zip(_colors(names), names, strict=True)):
            places = [place for place, group in enumerate(groups.values()) if name in group]
            bars = [group[name] for group in groups.values() if name in group]
            x = np.asarray(places) + (index - (len(names) - 1) / 2) * width
            values = np.array([bar.value for bar in bars])
            reach = np.maximum(0, [values - [bar.low for bar in bars], [bar.high for bar in bars] - values])
            axes.bar(x, values, width * 0.9, color=color, label=_label(name))
            axes.errorbar(x, values, yerr=reach, fmt="none", ecolor="#334155", elinewidth=1, capsize=2)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xticks(range(len(groups)), [_label(group) for group in groups])
        if sum(map(len, groups)) > CROWDED:
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel(_label(ylabel))
        if len(names) > 1:
            axes.legend(frameon=False, ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1))
        return _picture(figure, caption)


def calibration_curves(
    caption: str,
    series: Mapping[str, Sequence[tuple[float, Interval]]],
    *,
    xlabel: str = "score",
    ylabel: str = "",
) -> Picture:
    """The share that is right, with its 95% interval, over the score that should say it; in 0..1, points near the diagonal
    are calibrated. A point for each bin, its area by its share of n."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4.0))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#94a3b8", linewidth=1, linestyle="--")
        for color, (name, bins) in zip(_colors(series), series.items(), strict=True):
            x = [score for score, _ in bins]
            y, low, high = np.array([(one.value, one.low, one.high) for _, one in bins]).reshape(-1, 3).T
            sizes = np.array([one.n for _, one in bins])
            reach = np.maximum(0, [y - low, high - y])
            axes.errorbar(x, y, yerr=reach, fmt="-", color=color, linewidth=1.2, elinewidth=1, capsize=2)
            axes.scatter(
                x, y, 10 + 200 * sizes / max(1, sizes.sum()), color=color, zorder=3, label=_label(name)
            )
        axes.grid()
        axes.set_axisbelow(True)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel(_label(xlabel))
        axes.set_ylabel(_label(ylabel))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if len(series) > 1:
            axes.legend(frameon=False)
        return _picture(figure, caption)


def histogram(
    caption: str, counts: Mapping[str, Sequence[int]], *, xlabel: str = "", ylabel: str = ""
) -> Picture:
    """Counts in bins of equal width from 0 to 1, a step curve for each series, on a logarithmic axis."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.6))
        axes = figure.subplots()
        for color, (name, values) in zip(_colors(counts), counts.items(), strict=True):
            edges = np.linspace(0, 1, len(values) + 1)
            axes.stairs(values, edges, color=color, fill=True, alpha=0.35, linewidth=1.5, label=_label(name))
        axes.set_yscale("symlog")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.set_xlabel(_label(xlabel))
        axes.set_ylabel(_label(ylabel))
        axes.legend(frameon=False)
        return _picture(figure, caption)


def horizontal_bars(
    caption: str, values: Mapping[str, float], *, unit: str = "", of_first: bool = False
) -> Picture:
    """A bar per value, from the top down, with its number; of_first adds the share of the first: a funnel."""
    numbers = list(values.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.7 + 0.3 * len(numbers)))
        axes = figure.subplots()
        axes.barh(range(len(numbers)), numbers, 0.7, color=COLORS[0])
        for place, number in enumerate(numbers):
            text = f" {number:,.4g}" if number % 1 else f" {number:,.0f}"
            share = f" ({number / numbers[0]:.1%})" if of_first and place and numbers[0] else ""
            axes.text(number, place, _label(f"{text}{' ' * bool(unit)}{unit}{share}"), va="center")
        axes.set_yticks(range(len(numbers)), [_label(name) for name in values])
        axes.invert_yaxis()
        axes.margins(x=0.25)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        return _picture(figure, caption)


def _picture(figure: Figure, caption: str) -> Picture:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # No version and no date in the file: equal numbers give equal bytes.
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    return Picture(buffer.getvalue(), caption)


def _colors(names: Iterable[str]) -> list[str]:
    return [COLORS[index % len(COLORS)] for index, _ in enumerate(names)]


def _label(text: str) -> str:
    """The text as a label shows it: short, printable, with dollar signs that start no mathematics."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    short = clean if len(clean) <= MAX_LABEL else clean[: MAX_LABEL - 1] + "…"
    return short.replace("$", r"\$")


def _running_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` points, over fewer at the ends; same length as y."""
    if not len(y):
        return y
    kernel = np.ones(window)
    return np.convolve(y, kernel, "same") / np.convolve(np.ones(len(y)), kernel, "same")
