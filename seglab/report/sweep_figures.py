"""The figures of a sweep's page: curves of all runs, score against cost, and the best so far of a study."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from seglab.compare.answer import Comparison, Row
from seglab.compare.showing import amount
from seglab.report.figures import ACCENT, GRID, INK, QUIET, SERIES, WIDTH, axes, svg, whole_ticks
from seglab.report.run_figures import Figure, Line
from seglab.report.sweep_runs import RunLine

COLORED = len(SERIES)
SINGLE = 60  # runs whose curves are drawn one by one
POINTS = 200  # of a curve
WIDE, NARROW = 880, 300  # points; the widths of a figure that has the page's, and of one that has a third of it
DECADES = 20  # a cost that spans as much is drawn on a log scale
COSTS = (
    ("seconds", "training time", False), ("params", "parameters", False), ("speed", "training images/s", True),
)  # fmt: skip


def color(group: int | None) -> tuple[str, str]:
    """A group's colour, for matplotlib and in CSS: the first groups have one, the others are grey."""
    if group is None or group >= COLORED:
        return QUIET, "var(--quiet)"
    return SERIES[group], f"var(--s{group + 1})"


def brief(name: str) -> str:
    """A name with the long numbers that samplers draw cut to four digits."""
    return re.sub(r"\d\.\d{6,}(e[+-]?\d+)?", lambda number: f"{float(number[0]):.4g}", name)


def curves(runs: Sequence[RunLine], groups: Sequence[str], monitor: str) -> Figure | None:
    """The monitor of each run over epochs in its group's colour; of many runs each group's median and 10-90 % band."""
    drawn = [run for run in runs if run.curve and run.monitor == monitor]
    if not drawn:
        return None
    figure, ax = axes("epoch", "", WIDE, 330, left=58)
    many, keys = len(drawn) > SINGLE, list[Line]()
    for group in sorted({run.group for run in drawn}, key=lambda g: math.inf if g is None else g, reverse=True):
        own = [_thinned(run.curve) for run in drawn if run.group == group]
        fill, css = color(group)
        name = "not compared" if group is None else brief(groups[group])
        gid = f"group-{'rest' if group is None else group}"
        faint = group is None or group >= COLORED
        if many and group is not None:
            x, low, middle, high = _quantiles(own)
            if not faint and len(own) > 1:
                ax.fill_between(x, low, high, color=fill, alpha=0.15, linewidth=0)
            ax.plot(x, middle, color=fill, linewidth=1 if faint else 2, alpha=0.35 if faint else 1, gid=gid)
        else:  # one path for all runs of the group, so that its key marks them all
            joined = np.concatenate([np.vstack([curve, [[np.nan, np.nan]]]) for curve in own])
            ax.plot(*joined.T, color=fill, linewidth=1.2, alpha=0.35 if faint else 0.85, gid=gid)
        if not faint or group is None:
            keys.append((name, css, f"curves-{gid}"))
    if rest := len({run.group for run in drawn if run.group is not None and run.group >= COLORED}):
        keys.insert(0, (f"{rest} other groups", "var(--quiet)", ""))
    whole_ticks(ax, [x for run in drawn for x, _ in run.curve])
    _plain(ax)
    says = (
        f"The median of each group's runs, and the band that holds 80 % of them; {len(drawn)} runs"
        if many
        else f"Each of {len(drawn)} runs, in the colour of its group"
    )
    return Figure(svg(figure, "curves", f"{monitor} by epoch of {len(drawn)} runs"), monitor, says, tuple(keys[::-1]))


def costs(found: Comparison) -> tuple[list[Figure], list[str]]:
    """Test mIoU against each cost that differs, with the groups that no other beats in both; sentences on the other costs."""
    differing, said = [], []
    for key, title, more in COSTS:
        there = [(n, row, float(getattr(row, key))) for n, row in enumerate(found.rows) if _known(getattr(row, key), row.test)]
        values = {value for *_, value in there}
        if len(values) > 1:
            differing.append((key, title, more, there))
        elif values and len(found.rows) > 1:
            said.append(f"All groups have the same {title}: {amount(values.pop())}{' s' if key == 'seconds' else ''}.")
    width = NARROW if len(differing) > 2 else WIDTH
    return [_cost(*one, width) for one in differing], said


def front(points: Sequence[tuple[float, float]], more: bool) -> list[int]:
    """The places, by cost, of the (cost, score) that no other beats in one and equals in the other. more: cost is a gain."""
    cost = [-x if more else x for x, _ in points]
    order = sorted(range(len(points)), key=lambda n: (cost[n], -points[n][1]))
    kept: list[int] = []
    for n in order:
        same = kept and (cost[n], points[n][1]) == (cost[kept[-1]], points[kept[-1]][1])
        if not kept or points[n][1] > points[kept[-1]][1] or same:
            kept.append(n)
    return kept


def history(numbers: Sequence[int], scores: Sequence[float], monitor: str, higher: bool) -> Figure | None:
    """The score of each trial of a study, and the best so far as a line."""
    if not scores:
        return None
    best = (np.maximum if higher else np.minimum).accumulate(np.array(scores))
    figure, ax = axes("trial", "", WIDE, 300, left=58)
    ax.plot(numbers, scores, "o", color=QUIET, markersize=4, alpha=0.6)
    ax.step(numbers, best, where="post", color=ACCENT, linewidth=2)
    at = int(np.argmax(scores) if higher else np.argmin(scores))
    ax.plot(numbers[at], scores[at], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.4)
    whole_ticks(ax, numbers)
    _plain(ax)
    says = f"Best of {len(scores)} trials with a score: {scores[at]:.4f} in trial {numbers[at]}"
    return Figure(svg(figure, "history", f"{monitor} by trial"), f"{monitor}, best so far", says)


def _cost(key: str, title: str, more: bool, there: Sequence[tuple[int, Row, float]], width: int) -> Figure:
    figure, ax = axes(f"{title}, s" if key == "seconds" else title, "test mIoU", width, 240, left=56)
    best = front([(value, row.test) for _, row, value in there], more)
    ax.plot([there[at][2] for at in best], [there[at][1].test for at in best], color=GRID, linewidth=2, zorder=1)
    keys = []
    for at, (n, row, value) in enumerate(there):
        fill, css = color(n)
        leads = at in best
        ax.plot(
            value, row.test, "o", markersize=7.5 if leads else 5.5, markerfacecolor=fill if leads else "none",
            markeredgecolor=fill if leads else QUIET, zorder=3 if leads else 2, gid=f"group-{n}",
        )  # fmt: skip
        if leads:
            keys.append((value, (brief(row.name), css, f"cost-{key}-group-{n}")))
    values = [value for *_, value in there]
    if min(values) > 0 and max(values) / min(values) >= DECADES:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.margins(x=0.08)
        ax.locator_params(axis="x", nbins=4)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: amount(v) if v >= 0 else ""))
    _plain(ax)
    names = [entry for _, entry in sorted(keys, key=lambda k: k[0])]
    says = f"The line joins the Pareto front: no other group is {'faster' if more else 'cheaper'} and as good"
    return Figure(svg(figure, f"cost-{key}", f"test mIoU by {title}"), f"mIoU by {title}", says, tuple(names[:12]))


def _thinned(curve: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.array(curve[:: -(-len(curve) // POINTS)])


def _quantiles(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, and over the curves that have it the 10 %, 50 % and 90 % quantiles."""
    at: dict[float, list[float]] = {}
    for x, y in np.concatenate(curves).tolist():
        at.setdefault(x, []).append(y)
    x = sorted(at)
    low, middle, high = np.array([np.quantile(at[key], (0.1, 0.5, 0.9)) for key in x]).T
    return np.array(x), low, middle, high


def _plain(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:.6g}")
    ax.locator_params(axis="y", nbins=5)


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)
