"""A run's folder, read for its page: what is there, and a sentence on each part that is missing or cannot be read."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seglab.compare.checking import clusters
from seglab.compare.counting import read_counts
from seglab.errors import DataError, shown
from seglab.results import is_number, part, read_results
from seglab.stats.difference import Difference
from seglab.stats.scores import Scores, headline

CLOSE = 1e-6  # of a score that was computed twice
DECODED = ""  # the first rows of confidence.csv: a class may have any name, but not this one
BINS = 150  # of probability there, as in seglab.metrics.calibration (a test compares), which needs torch
AGAIN = "evaluate the checkpoint (python -m seglab.evaluate ckpt=RUN/checkpoints/best.ckpt) and name the folder that it writes"


@dataclass
class Reading:
    """A run's folder. notes: section -> why it is empty.

    counts: (N, K, 3) tp, fp, fn. confusion: (K, K) rows = truth; ignored: (K,) predictions where the truth is ignored.
    confidence: class -> (n, 3) bin of BINS, pixels, right.
    """

    folder: Path
    results: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    counts: np.ndarray | None = None
    confusion: np.ndarray | None = None
    ignored: np.ndarray | None = None
    confidence: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """The split that was scored last: test, where there was a test."""
        named = part(self.results, "passport").get("split")
        per_class = part(self.results, "per_class")
        return named if isinstance(named, str) else "test" if "test" in per_class or not per_class else next(iter(per_class))

    @property
    def headline(self) -> str:
        """The key in metrics of the number that stands for the run: that of its monitor, on the split."""
        metrics, own = numbers(self.results, "metrics"), str(self.results["monitor"]).partition("/")[2]
        return next((key for key in (f"{self.split}/{own}", f"{self.split}/iou") if key in metrics), f"{self.split}/iou")


def read(folder: Path) -> Reading:
    """All that the page needs, but the pictures. DataError where there is no results.json to read."""
    found = Reading(folder, read_results(folder))
    data = part(found.results, "data")
    found.classes = [str(name) for name in data["classes"]] if isinstance(data.get("classes"), list) else []
    readers: dict[str, Callable[[Reading], None]] = {
        "curves": _curves, "intervals": _counts, "confusion": _confusion, "confidence": _confidence,
    }  # fmt: skip
    for section, reader in readers.items():
        try:
            reader(found)
        except DataError as error:
            found.notes[section] = str(error)
    return found


def numbers(results: dict[str, Any], key: str) -> dict[str, float | int | None]:
    """The entries of a table that are numbers or null."""
    return {k: v for k, v in part(results, key).items() if v is None or is_number(v)}


def half_widths(found: Reading) -> tuple[float | None, list[float | None]] | None:
    """Half of the 95 % interval over test images of mIoU and of each class's IoU; None without counts that give the score."""
    value = numbers(found.results, "metrics").get(f"{found.split}/iou")
    if found.counts is None or value is None or len(found.counts) < 2:
        return None
    every, group = list(range(found.counts.shape[1])), part(found.results, "data").get("group")
    try:
        labels = clusters(found.ids, None, [group] if isinstance(group, str) else ())
    except DataError:  # an evaluation of other images
        labels = None
    totals = found.counts.sum(0, dtype=np.int64)
    for scored in [every, [1]] if len(every) == 2 else [every]:  # binary: the foreground alone
        if abs(float(headline(totals, scored)) - value) < CLOSE:
            # A width of 0 is that of a class which no image shows well or badly: it cannot be known.
            half = [
                float(h) if np.isfinite(h) and h > 0 else None
                for h in Difference.of(Scores.of(found.counts[None], scored, labels)).half()
            ]
            return half[0], half[1:]
    found.notes.setdefault("intervals", f"per_image.csv does not give the {found.split}/iou of results.json; {AGAIN}.")
    return None


def rows(path: Path) -> list[list[str]]:
    """The lines of a CSV file, at least one. DataError where there is none to read."""
    if not path.is_file():
        raise DataError(f"No {path.name}: {AGAIN}.")
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, csv.Error) as error:
        raise DataError(f"{shown(path)} cannot be read ({error}).") from error
    if not lines:
        raise DataError(f"{path.name} is empty; {AGAIN}.")
    return lines


def _curves(found: Reading) -> None:
    if not (found.folder / "metrics.csv").is_file():
        raise DataError("No metrics.csv: the curves of training lie in the folder of the run itself, not of its evaluation.")
    header, *lines = rows(found.folder / "metrics.csv")
    try:
        columns = [[float(cell) if cell else None for cell in column] for column in zip(*lines, strict=True)]
    except ValueError as error:
        raise DataError(f"metrics.csv is broken ({error}), so that there are no curves.") from error
    found.curves = {name: values for name, values in zip(header, columns, strict=False) if any(v is not None for v in values)}
    if not found.curves:
        raise DataError("metrics.csv has no line yet: no epoch has ended.")


def _counts(found: Reading) -> None:
    path = found.folder / "per_image.csv"
    if not path.is_file():
        raise DataError(f"No per_image.csv, so the scores have no intervals: {AGAIN}.")
    ids, classes, counts = read_counts(path)
    if classes != found.classes:
        raise DataError("per_image.csv has other classes than results.json, so the scores have no intervals.")
    found.ids, found.counts = ids, counts


def _confusion(found: Reading) -> None:
    header, *lines = rows(found.folder / "confusion.csv")
    wrong = DataError(f"confusion.csv does not fit the classes of results.json; {AGAIN}.")
    k = len(found.classes)
    if header[1:] != found.classes or [line[0] for line in lines[:k]] != found.classes:
        raise wrong
    try:
        counts = np.array([[int(cell) for cell in line[1:]] for line in lines], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if counts.shape not in ((k, k), (k + 1, k)) or counts.min(initial=0) < 0:
        raise wrong
    found.confusion, found.ignored = counts[:k], counts[k] if len(counts) > k else None


def _confidence(found: Reading) -> None:
    header, *lines = rows(found.folder / "confidence.csv")
    wrong = DataError(f"confidence.csv does not hold class, bin, pixels, right; {AGAIN}.")
    if header != ["class", "bin", "pixels", "right"]:
        raise wrong
    blocks: list[tuple[str, list[list[int]]]] = []
    try:
        for name, *cells in lines:
            at, pixels, right = map(int, cells)
            if not (0 <= at < BINS and 0 <= right <= pixels):
                raise wrong
            if not blocks or blocks[-1][0] != name or at <= blocks[-1][1][-1][0]:
                blocks.append((name, []))
            blocks[-1][1].append([at, pixels, right])
        names = [DECODED, *(name for name, _ in blocks[1:])]  # the first block is of the decoded class
        found.confidence = {name: np.array(rows, dtype=np.int64) for name, (_, rows) in zip(names, blocks, strict=False)}
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if not found.confidence:
        raise DataError(f"confidence.csv is empty; {AGAIN}.")
