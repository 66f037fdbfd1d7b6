"""What training showed of each class, from the ledger in results.json: a figure and the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from seglab.errors import visible
from seglab.report.figures import ACCENT, INK, QUIET, SERIES, axes, svg
from seglab.results import is_number, part
from seglab.types import SEEN

DRAWN = 24  # classes, of those that were seen least
_BAR = 22  # height of a class's bar, points


@dataclass(frozen=True)
class Seen:
    """`rows`: (class, counts by name as types.SEEN has them, share of the samples that show it), and their `columns`."""

    samples: int
    epochs: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, dict[str, int], float], ...]
    drawn: Markup
    says: str


def seen(results: dict[str, Any]) -> Seen | None:
    """What is to be shown; None where results.json has no (whole) ledger."""
    ledger = part(results, "ledger")
    samples, epochs, per_class = ledger.get("samples"), ledger.get("epochs"), part(ledger, "per_class")
    if not (isinstance(samples, int) and isinstance(epochs, int) and samples > 0 and per_class):
        return None
    tables = {name: part(per_class, name) for name in per_class}
    columns = tuple(key for key in SEEN if all(is_number(table.get(key)) for table in tables.values()))
    if "images" not in columns:
        return None
    columns = tuple(key for key in columns if key != "aimed" or any(table["aimed"] for table in tables.values()))
    rows = tuple((name, {key: int(table[key]) for key in columns}, table["images"] / samples) for name, table in tables.items())
    fewest = sorted(rows, key=lambda row: row[2])[:DRAWN]
    shown = [row for row in rows if row in fewest]
    says = "How many of the samples show the class"
    says += ", the strong part because they were aimed at it" if "aimed" in columns else ""
    says += f"; the {DRAWN} classes that were seen least" if len(rows) > DRAWN else ""
    return Seen(samples, epochs, columns, rows, _bars(shown, samples), says)


def _bars(rows: list[tuple[str, dict[str, int], float]], samples: int) -> Markup:
    figure, ax = axes(height=40 + _BAR * len(rows), width=560, left=120, right=50, top=4, bottom=30)
    at = range(len(rows))
    shares = [share for _, _, share in rows]
    ax.barh(at, shares, height=0.62, color=SERIES[0], alpha=0.55)
    ax.barh(at, [counts.get("aimed", 0) / samples for _, counts, _ in rows], height=0.62, color=ACCENT)
    for y, (name, _, share) in zip(at, rows, strict=True):
        told = visible(name)
        short = told if len(told) <= 18 else f"{told[:17]}…"
        ax.text(-0.015, y, short, ha="right", va="center", color=QUIET, size=11.5)
        ax.text(min(share, 1) + 0.01, y, f"{share:.1%}".replace("%", " %"), va="center", color=INK, size=10.5)
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xticks=[0, 0.25, 0.5, 0.75, 1])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")
    ax.set_yticks([])
    ax.grid(axis="y", visible=False)
    return svg(figure, "seen", "Share of the training samples that show each class")
