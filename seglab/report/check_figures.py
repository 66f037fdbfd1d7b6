"""Figures of a data set: how large its objects are, and the colours of its images by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seglab.report.figures import QUIET, SERIES, axes, svg
from seglab.report.run_figures import COLORED, Figure

_NAMES = {1: ("grey",), 3: ("red", "green", "blue")}
_SHOWN = 16  # channels; more bars than that are no figure


def object_sizes(classes: Sequence[str], splits: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Objects by their area, in octaves, over all splits; the classes with most of them in colour. None without objects."""
    counts = {name: _added([told["classes"][name]["sizes"] for told in splits.values()]) for name in classes}
    counts = {name: some for name, some in counts.items() if some.any()}
    if not counts:
        return None
    order = sorted(counts, key=lambda name: -counts[name].sum())
    rest = _added([counts[name].tolist() for name in order[COLORED:]])
    stack = [(name, counts[name], SERIES[n], f"var(--s{n + 1})") for n, name in enumerate(order[:COLORED])]
    if rest.any():
        stack.append((f"{len(order) - COLORED} more classes", rest, QUIET, "var(--quiet)"))
    width = max(len(some) for _, some, _, _ in stack)
    figure, ax = axes("area of an object in pixels", "objects", width=640, height=270, left=66)
    below = np.zeros(width)
    for _, some, color, _ in stack:
        high = np.pad(some, (0, width - len(some))).astype(float)
        ax.bar(np.arange(width) + 0.5, high, bottom=below, width=0.86, color=color)
        below += high
    first = int(np.flatnonzero(below)[0])
    at = np.arange(first, width + 1)[:: 1 + (width - first) // 11]
    ax.set(xticks=at, xticklabels=[f"{2 ** int(n):,}" for n in at], xlim=(first - 0.1, width + 0.1))
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    ax.locator_params(axis="y", nbins=5, integer=True)
    says = (
        "Connected regions of one class, or the objects that the data tell apart; a bar holds areas from one number to the next"
    )
    keys = tuple((name, css, "") for name, _, _, css in stack)
    return Figure(svg(figure, "sizes", "Objects by area"), "Sizes of objects", says, keys)


def channels(splits: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Mean and standard deviation of each channel in each split; None where images differ in channels or have too many."""
    told = {split: one for split, one in splits.items() if one["mean"]}
    count = {len(one["mean"]) for one in told.values()}
    if len(count) != 1 or max(count) > _SHOWN:
        return None
    number = count.pop()
    figure, ax = axes("", "value, 0 to 1", width=420, height=270)
    step = 0.7 / len(told)
    for n, one in enumerate(told.values()):
        x = np.arange(number) + (n - (len(told) - 1) / 2) * step
        ax.errorbar(x, one["mean"], yerr=one["std"], fmt="o", color=SERIES[n], markersize=6, elinewidth=2, capsize=0)
    names = _NAMES.get(number) or tuple(f"channel {n}" if number < 6 else str(n) for n in range(number))
    ax.set(xticks=range(number), xticklabels=names, xlim=(-0.6, number - 0.4))
    ax.locator_params(axis="y", nbins=5)
    keys = tuple((split, f"var(--s{n + 1})", "") for n, split in enumerate(told))
    drawn = svg(figure, "channels", "Mean and standard deviation of each channel by split")
    return Figure(drawn, "Channels", "Mean of all pixels, and one standard deviation to both sides", keys)


def _added(lists: Sequence[Sequence[int]]) -> np.ndarray:
    out = np.zeros(max(map(len, lists), default=0), np.int64)
    for one in lists:
        out[: len(one)] += np.array(one, np.int64)
    return out
