"""per_image.csv read quickly: the numbers of a whole file at once, where no id needs quotes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from seglab.errors import DataError
from seglab.results import COUNTS, read_per_image

LARGEST = np.iinfo(np.int32).max  # an image's counts fit 32 bits; half the memory


def read_counts(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """(image ids, class names, counts (N, K, 3)), as results.read_per_image has them. Raises DataError."""
    ids, classes, counts = _quick(path) or read_per_image(path)
    if counts.size and counts.min() < 0:
        raise DataError(f"{path} counts fewer than 0 pixels; evaluate the run's checkpoint to write it again.")
    return ids, classes, counts.astype(np.int32) if not counts.size or counts.max() <= LARGEST else counts


def _quick(path: Path) -> tuple[list[str], list[str], np.ndarray] | None:
    """The same for a plain file; None for one that the careful reader has to look at."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, *lines = data.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    if b'"' in data or b"\r" in head or not lines or not all(lines):
        return None
    header = head.decode("utf-8", "surrogateescape").split(",")
    classes = [name.removesuffix("/tp") for name in header[1::3]]
    if not classes or header != ["image", *(f"{name}/{count}" for name in classes for count in COUNTS)]:
        return None
    parts = [line.partition(b",") for line in lines]
    if len({rest.count(b",") for _, _, rest in parts}) > 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is no number
        try:
            numbers = np.fromstring(b",".join(rest for _, _, rest in parts), dtype=np.int64, sep=",")
        except (ValueError, DeprecationWarning):
            return None
    if len(numbers) != len(lines) * 3 * len(classes):
        return None
    ids = b"\n".join(first for first, _, _ in parts).decode("utf-8", "surrogateescape").split("\n")
    return ids, classes, numbers.reshape(len(lines), len(classes), 3)
