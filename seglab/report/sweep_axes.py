"""Parallel coordinates: an upright axis for each setting that differs, the score last, a line for each run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator

from seglab.report.figures import INK, QUIET, axes, svg
from seglab.report.page import NOTHING, short
from seglab.report.run_figures import Figure
from seglab.report.sweep_figures import WIDE
from seglab.report.sweep_runs import RunLine

MOST = 10  # axes that can be read
LABELS = 14  # of an axis
SPREAD = 0.35  # of the room of a category, over which its runs are spread, so that they do not lie on each other
DECADES = 100  # values that span as much have a log scale
_STEPS = 24
_SHADE = "#0800%02x"  # stand-ins for shades between the weakest and the strongest; no colour of figures.py


@dataclass
class _Axis:
    """Where the runs stand on an axis (0..1), and its labels."""

    name: str
    places: np.ndarray
    ticks: list[tuple[float, str]]


def differing(runs: Sequence[RunLine]) -> list[str]:
    """The settings in which runs differ; the seed only where there are fewer than two others."""
    keys = list(dict.fromkeys(key for run in runs for key in run.axes))
    keys = [key for key in keys if len({run.axes.get(key) for run in runs}) > 1]
    others = [key for key in keys if key != "seed"]
    return others if len(others) > 1 else keys


def parallel(runs: Sequence[RunLine], monitor: str, higher: bool) -> tuple[Figure | None, dict[str, str], str]:
    """The figure, the id of each run's line by its name, and a sentence where something is left out or there is no figure."""
    runs = [run for run in runs if run.score is not None and run.monitor == monitor]
    keys = differing(runs)
    if len(runs) < 2 or not keys:
        return None, {}, "The runs differ in no setting." if len(runs) > 1 else "Fewer than two runs have a score."
    scores = np.array([run.score for run in runs], float)
    rank = np.argsort(np.argsort(scores if higher else -scores, kind="stable")) / max(1, len(runs) - 1)
    drawn = [_axis(key, [run.axes.get(key, "") for run in runs], rank) for key in keys[:MOST]]
    drawn.append(_numeric(monitor, scores, log=False))
    figure, ax = axes("", "", WIDE, 340, left=110, right=60, top=30, bottom=16)
    ax.set(xlim=(0, len(drawn) - 1), ylim=(-0.06, 1.04), xticks=[], yticks=[])
    ax.spines["bottom"].set_visible(False)
    for n, axis in enumerate(drawn):
        _upright(ax, n, axis, last=n == len(drawn) - 1)
    across, strong, lines = np.arange(len(drawn)), _unit(scores if higher else -scores), {}
    for n in np.argsort(strong, kind="stable").tolist():  # the best lie on top
        shade = _SHADE % round(strong[n] * _STEPS)
        ax.plot(across, [axis.places[n] for axis in drawn], color=shade, linewidth=1 + strong[n], gid=f"run-{n}", clip_on=False)
        lines[runs[n].name] = f"axes-run-{n}"
    said = f"Drawn are {MOST} of {len(keys)} settings." if len(keys) > MOST else ""
    title = f"{len(runs)} runs, from their settings to {monitor}"
    says = "The stronger the colour the better; a row of the table of runs, pointed at, shows its line"
    return Figure(_shaded(svg(figure, "axes", title)), title, says), lines, said


def _upright(ax, n: int, axis: _Axis, last: bool) -> None:  # type: ignore[no-untyped-def]
    """An axis with its name above; labels stand on the left of it, those of the last on the right."""
    ax.plot([n, n], [0, 1], color=QUIET, linewidth=1, zorder=1, clip_on=False)
    side = {"ha": "left"} if last else {"ha": "right"}
    for at, label in axis.ticks:
        ax.annotate(
            short(label, 16), (n, at), (7 if last else -7, 0), textcoords="offset points", va="center", color=QUIET, size=10.5,
            zorder=5, **side,
        )  # fmt: skip
        ax.plot([n], [at], marker="_", markersize=6, color=QUIET, zorder=4, clip_on=False)
    ax.annotate(short(axis.name, 24), (n, 1), (0, 16), textcoords="offset points", ha="center", color=INK, size=11.5)


def _axis(name: str, values: Sequence[str], rank: np.ndarray) -> _Axis:
    """A numeric axis where all values that are there are numbers, else one place for each value."""
    read = np.array([_number(value) for value in values])
    if not any(value and math.isnan(number) for value, number in zip(values, read, strict=True)):
        known = read[np.isfinite(read)]
        if len(set(known.tolist())) > 1:
            return _numeric(name, read, log=bool(known.min() > 0 and known.max() / known.min() >= DECADES))
    kinds = sorted(set(values), key=lambda value: (not value, _natural(value)))
    middle = {kind: (n + 0.5) / len(kinds) for n, kind in enumerate(kinds)}
    places = np.array([middle[value] for value in values]) + (rank - 0.5) * SPREAD / len(kinds)
    step = -(-len(kinds) // LABELS)
    return _Axis(name, places, [(middle[kind], kind or NOTHING) for kind in kinds[::step]])


def _numeric(name: str, values: np.ndarray, log: bool) -> _Axis:
    """Values between the lowest and the highest; what a run has no value for stands below."""
    known = sorted(set(values[np.isfinite(values)].tolist()))
    low, high = known[0], known[-1]
    at = (lambda v: np.log(v / low) / np.log(high / low)) if log else (lambda v: (v - low) / ((high - low) or 1.0))
    places = np.where(np.isfinite(values), at(np.where(np.isfinite(values), values, low)), -0.06)
    locator = LogLocator(numticks=6) if log else MaxNLocator(5)
    ticks = known if len(known) <= 6 else [float(v) for v in locator.tick_values(low, high) if low <= v <= high]
    labels = [(float(at(v)), f"{v:.6g}" if len(known) <= 6 and len(f"{v:.6g}") < 8 else f"{v:.4g}") for v in ticks]
    return _Axis(name, places, labels + ([(-0.06, NOTHING)] if len(values[~np.isfinite(values)]) else []))


def _number(text: str) -> float:
    with suppress(ValueError):
        return float(text) if math.isfinite(float(text)) else math.nan
    return math.nan


def _natural(text: str) -> list[tuple[int, float, str]]:
    """A key by which text sorts as people count: 2 before 10."""
    parts = re.split(r"(\d+)", text)
    return [(0, float(p), "") if p.isdecimal() and len(p) < 300 else (1, 0.0, p) for p in parts]


def _unit(values: np.ndarray) -> np.ndarray:
    """The values scaled to 0..1, by rank and size in equal parts: neither one failure nor a crowd of equals takes it all."""
    span = values.max() - values.min()
    size = (values - values.min()) / span if span > 0 else np.ones(len(values))
    rank = np.searchsorted(np.sort(values), values) / max(1, len(values) - 1)
    return np.clip((size + rank) / 2, 0, 1)


def _shaded(drawn: Markup) -> Markup:
    mix = lambda m: f"color-mix(in oklab, var(--accent) {round(12 + 88 * int(m[1], 16) / _STEPS)}%, var(--shade))"  # noqa: E731
    return Markup(re.sub(r"#0800([0-9a-f]{2})\b", mix, drawn))
