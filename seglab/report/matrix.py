"""The confusion of classes as a table of shares, and the largest confusions as a list."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seglab.report.page import count, percent, short

WIDEST = 40  # classes of a matrix that can be read
WRITTEN = 12  # classes up to which shares stand in the cells
LISTED = 20


@dataclass(frozen=True)
class Cell:
    """A cell: how strong its colour is (0..1), its text, and what it says in full."""

    heat: float
    text: str
    says: str


@dataclass(frozen=True)
class Mistake:
    """Pixels of one class that were predicted as another; share: of the first class's pixels."""

    truth: str
    predicted: str
    pixels: int
    share: float


def matrix(counts: np.ndarray, classes: list[str], ignored: np.ndarray | None) -> list[tuple[str, list[Cell]]]:
    """The rows (name, cells), each as shares of its sum; the predictions on ignored pixels last. [] if too wide to read."""
    if len(classes) > WIDEST:
        return []
    rows = [(name, _cells(f"truth {short(name, 40)}", line, classes)) for name, line in zip(classes, counts, strict=True)]
    if ignored is not None and ignored.sum():
        rows.append(("ignored", _cells("ignored", ignored, classes)))
    return rows


def mistakes(counts: np.ndarray, classes: list[str]) -> list[Mistake]:
    """The largest confusions by pixels."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    totals = counts.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    pairs = [divmod(int(at), len(classes)) for at in order if wrong.flat[at] > 0]
    return [Mistake(classes[t], classes[p], int(wrong[t, p]), float(wrong[t, p] / totals[t])) for t, p in pairs]


def _cells(row: str, line: np.ndarray, classes: list[str]) -> list[Cell]:
    total = int(line.sum())
    cells = []
    for name, pixels in zip(classes, line.tolist(), strict=True):
        share = pixels / total if total else 0.0
        written = "" if not pixels or len(classes) > WRITTEN else "100" if share >= 0.9995 else f"{100 * share:.1f}"
        says = f"{row}, predicted {short(name, 40)}: {count(pixels)} pixels ({percent(share if total else None, 2)})"
        cells.append(Cell(math.sqrt(share), written, says))  # the root, so that a confusion of some percent is seen
    return cells
