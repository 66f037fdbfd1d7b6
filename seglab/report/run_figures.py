"""The figures of a run's page: curves of training, precision against recall, and how far probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from seglab.report.figures import ACCENT, GRID, INK, QUIET, SERIES, axes, svg, whole_ticks
from seglab.report.reading import BINS

Line = tuple[str, str, str]  # a legend's entry: name, colour in CSS, id of the line on the page or ''
COLORED = len(SERIES) - 1  # the last is a grey, as the lines in the background are
_PARTS = 15  # of probability in the reliability diagram: those that the ECE is made of


@dataclass(frozen=True)
class Figure:
    """A figure for the macro of that name."""

    drawn: Markup
    title: str
    says: str
    keys: tuple[Line, ...] = ()


def curves(columns: Mapping[str, Sequence[float | None]], monitor: str, lowest: bool) -> list[Figure]:
    """Losses, the monitored score (its best epoch marked), and the learning rate, as far as metrics.csv has them."""
    along = "epoch" if "epoch" in columns else "step"
    x = columns.get(along) or [float(n) for n in range(max(map(len, columns.values())))]
    if along == "epoch":  # the file counts from 0, the terminal from 1
        x = [None if value is None else value + 1 for value in x]
    found = []
    losses = {name: columns[name] for name in ("train/loss", "val/loss") if name in columns}
    if losses:
        found.append(_lines("losses", x, losses, along, "Loss", ""))
    if monitor in columns and monitor not in losses:
        found.append(_lines("score", x, {monitor: columns[monitor]}, along, f"Score, {monitor}", "", lowest))
    rates = {name: values for name, values in columns.items() if name == "lr" or name.startswith("lr/")}
    if rates:
        found.append(_lines("rate", x, rates, along, "Learning rate", ""))
    return found


def _lines(
    name: str, x: Sequence[float | None], lines: Mapping[str, Sequence[float | None]], along: str, title: str, says: str,
    lowest: bool | None = None,
) -> Figure:  # fmt: skip
    figure, ax = axes(along, width=320, height=230, left=58)
    keys, seen = [], []
    for n, (label, values) in enumerate(lines.items()):
        pairs = [(a, b) for a, b in zip(x, values, strict=False) if a is not None and b is not None]
        points = [(a, b) for a, b in pairs if abs(a) < 1e9 and abs(b) < 1e300]
        if not points:
            continue
        at, value = np.array(points).T
        seen.extend(at)
        color = SERIES[n % COLORED]
        ax.plot(at, value, color=color, linewidth=2, marker="o" if len(at) < 25 else "", markersize=3.5)
        keys.append((label, f"var(--s{n % COLORED + 1})", ""))
        if lowest is not None:
            best = int(np.argmin(value) if lowest else np.argmax(value))
            ax.plot(at[best], value[best], "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.4)
            says = f"Best of validation: {value[best]:.4f} in {along} {at[best]:.0f}"
    whole_ticks(ax, seen or [0.0])
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:.6g}")
    ax.locator_params(axis="y", nbins=5)
    return Figure(svg(figure, name, f"{title} by {along}"), title, says, tuple(keys) if len(keys) > 1 else ())


def precision_recall(confidence: Mapping[str, np.ndarray], areas: Mapping[str, float | None]) -> Figure:
    """Precision against recall of each class as the threshold of its probability falls; the lowest areas are in colour."""
    figure, ax = axes("recall", "precision")
    _unit(ax)
    order = sorted(confidence, key=lambda name: (areas.get(name) is None, areas.get(name) or 0.0))
    if len(confidence) <= COLORED:
        order = list(confidence)
    colored = order[:COLORED]
    keys: list[Line] = []
    for n, name in enumerate(order):
        recall, precision = recall_precision(confidence[name])
        if not len(recall):
            continue
        at = n if n < len(colored) else None
        color, width = (SERIES[at], 2.0) if at is not None else (QUIET, 0.7)
        ax.plot(recall, precision, color=color, linewidth=width, gid=f"class-{n}", zorder=3 if at is not None else 2)
        keys.append((name, f"var(--s{at + 1})" if at is not None else "var(--quiet)", f"recall-class-{n}"))
    says = "Of the pixels at or above a threshold, how many are right, against how many of the class are found"
    if len(confidence) > COLORED:
        says += f"; in colour the {COLORED} classes with the lowest area. Point at a name to see its line"
        keys = keys[:40]
    return Figure(svg(figure, "recall", "Precision against recall of each class"), "Precision and recall", says, tuple(keys))


def recall_precision(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at thresholds that are the edges of the bins, from the highest down; empty without such pixels."""
    order = bins[np.argsort(-bins[:, 0])]
    pixels, right = order[:, 1].cumsum(), order[:, 2].cumsum()
    if not len(order) or right[-1] == 0:
        return np.array([]), np.array([])
    recall, precision = right / right[-1], right / np.maximum(pixels, 1)
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def reliability(decoded: np.ndarray) -> Figure:
    """How often pixels of a given probability are right, in fifteenths; below it how many pixels have that probability."""
    pixels, right = np.zeros(_PARTS), np.zeros(_PARTS)
    np.add.at(pixels, decoded[:, 0] * _PARTS // BINS, decoded[:, 1])
    np.add.at(right, decoded[:, 0] * _PARTS // BINS, decoded[:, 2])
    middle, there = (np.arange(_PARTS) + 0.5) / _PARTS, pixels > 0
    figure, ax = axes("probability of the class that was chosen", "share that is right")
    _unit(ax)
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 4)))
    ax.bar(middle, 0.22 * pixels / pixels.max(), width=0.8 / _PARTS, color=GRID, zorder=1)
    ax.plot(middle[there], right[there] / pixels[there], color=ACCENT, linewidth=2, marker="o", markersize=4.5)
    says = "On the dashed line probabilities are what they say, below it they are too high. The bars show where the pixels are"
    return Figure(svg(figure, "reliability", "Share of right pixels by probability"), "Reliability", says)


def _unit(ax: Axes) -> None:
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
