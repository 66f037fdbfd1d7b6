"""Figures as SVG inside the page: they take the page's colours and font, and equal numbers give equal text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from seglab.errors import visible

# Stand-ins: matplotlib wants colours, the page has variables that differ in light and dark.
INK, QUIET, GRID, PAPER, ACCENT = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = tuple(f"#06060{n}" for n in range(1, 9))  # as var(--s1) ... var(--s8) in HTML
_COLORS = {
    INK: "currentColor", QUIET: "var(--quiet)", GRID: "var(--line)", PAPER: "var(--paper)", ACCENT: "var(--accent)",
    **{color: f"var(--s{n})" for n, color in enumerate(SERIES, 1)},
}  # fmt: skip
WIDTH, HEIGHT = 420, 270
_SIZE = 11.5


def axes(
    xlabel: str = "", ylabel: str = "", width: int = WIDTH, height: int = HEIGHT, left: int = 52, bottom: int = 42,
    right: int = 14, top: int = 14,
) -> tuple[Figure, Axes]:  # fmt: skip
    """A figure (points) with one pair of axes in the page's style; margins in points. Texts go through `svg`'s escaping."""
    figure = Figure(figsize=(width / 72, height / 72))
    area = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    ax = figure.add_axes(area, facecolor="none")
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set(color=QUIET, linewidth=0.8)
    ax.grid(axis="y", color=GRID, linewidth=1)
    ax.set_axisbelow(True)
    ax.tick_params(axis="x", color=QUIET, labelcolor=QUIET, labelsize=_SIZE, length=3, pad=5)
    ax.tick_params(axis="y", color=QUIET, labelcolor=QUIET, labelsize=_SIZE, length=0, pad=6)
    ax.set_xlabel(xlabel, color=QUIET, size=_SIZE, labelpad=4)
    ax.set_ylabel(ylabel, color=QUIET, size=_SIZE, labelpad=6)
    return figure, ax


def whole_ticks(ax: Axes, values: Sequence[float]) -> None:
    """At most seven ticks of whole numbers along x, over the range of `values`."""
    low, high = int(min(values)), int(max(values))
    step = max(1, next(s * 10**n for n in range(12) for s in (1, 2, 5) if (high - low) / (s * 10**n) <= 7))
    ax.set_xticks(range(-(-low // step) * step, high + 1, step))


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an <svg> for the page. name: unique on the page, begins all its ids. label: what a screen reader says."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be called $x$
    out = io.StringIO()
    plain: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}
    with rc_context(plain), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has its own fonts
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    drawn = out.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # The style would hold for the whole page, the metadata name web addresses.
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"(<[^>]*>)|([^<]+)", lambda part: _tag(part[1], name) if part[1] else _words(part[2]), drawn)
    head = f'<svg role="img" aria-label="{escape(visible(label))}"'
    return Markup(re.sub(r"\n\s*\n+", "\n", drawn.replace("<svg", head, 1).strip()))


def _tag(tag: str, name: str) -> str:
    tag = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    if tag.startswith("<svg"):
        tag = re.sub(r'\s(width|height)="[^"]*"', "", tag)
    tag = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag)
    return re.sub(r"#0[1-6]0[1-6]0[1-8]\b", lambda color: _COLORS.get(color[0], color[0]), tag)


def _words(text: str) -> str:
    return visible(text) if text.strip() else text
