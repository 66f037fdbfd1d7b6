"""Read a CSV or JSONL file that names images and their masks, one pair a line, into few arrays: it may have a million."""

from __future__ import annotations

import gc
import itertools
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data import headers
from seglab.data.compact import Sizes, Texts, even
from seglab.data.layout import SPLITS, Pairs
from seglab.data.listed_lines import Line, lines_of
from seglab.errors import DataError, nearest, visible

_ODD = ("\\", ":", "//", "/.", "\n.", "\n/", "/\n")  # what a path of names alone, one below the other, has not
WORDS = tuple(alias for aliases in SPLITS.values() for alias in aliases)  # for a split
_MEANT = np.array([number for number, aliases in enumerate(SPLITS.values()) for _ in aliases])
_NUMBERS = {word: n for n, word in enumerate(WORDS)}
_CHUNK = 65536
Column = Sequence[Any]


@dataclass
class Rows:
    """The lines of a list.

    Pairs in its order, the number of each line, its word for a split (of WORDS, -1 without), hashes of the image's path and
    of its name, whether it has a group, and the sizes of the columns height and width.
    """

    file: Path
    pairs: Pairs
    lines: np.ndarray
    words: np.ndarray
    image_hashes: np.ndarray
    name_hashes: np.ndarray
    grouped: np.ndarray
    sizes: Sizes | None

    @property
    def splits(self) -> np.ndarray:
        """The number of the split that each row names."""
        return _MEANT[self.words]

    def where(self, n: int) -> str:
        """The place of a row, for messages."""
        return f"{self.file} line {self.lines[n]}"


def read_rows(file: Path, setting: str) -> Rows:
    """The rows of a list; DataError names the file and line of what is missing or wrong.

    Paths are relative to the list's folder. An image's name is its id, or the path of the image without suffix; with a
    group it begins with the group and a slash. That the files are there is checked here; in a list of very many, of a sample.
    """
    with _uncollected():
        rows = _Reading(file).all(lines_of(file, setting))
    if not len(rows.pairs):
        raise DataError(f"{file} lists no image; write one line per image under the columns image and mask.")
    _check_there(rows)
    return rows


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: for a million short lists it would walk again and again over all that torch has made."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Reading:
    """What is taken from the lines of one file, as far as it was read."""

    def __init__(self, file: Path) -> None:
        self.file, self.folder = file, str(file.parent)
        self.before = os.path.join(os.path.abspath(self.folder), "")  # what a path below the folder begins with
        self.texts = Texts(), Texts(folder=self.folder), Texts(folder=self.folder)
        self.lines, self.sides, self.image_hashes, self.name_hashes = (array("q") for _ in range(4))
        self.words, self.grouped = array("b"), array("b")
        self.sized = self.unsized = 0  # the first line with height and width, and without

    def all(self, lines: Iterable[Line]) -> Rows:
        left = iter(lines)
        while some := list(itertools.islice(left, _CHUNK)):
            numbers, values = zip(*some, strict=True)
            self._take(numbers, *zip(*values, strict=True))
        if self.sized and self.unsized:
            raise DataError(
                f"{self.file} line {self.unsized} has no height and width, but line {self.sized} has; give every image both, "
                "or leave the columns out."
            )
        lines_, words, images, names = (np.array(a) for a in (self.lines, self.words, self.image_hashes, self.name_hashes))
        sizes = Sizes(np.array(self.sides)) if self.sized else None
        return Rows(self.file, Pairs(*self.texts), lines_, words, images, names, np.array(self.grouped, bool), sizes)

    def _take(self, numbers: Column, images: Column, masks: Column, ids: Column, groups: Column, words: Column,
              heights: Column, widths: Column) -> None:  # fmt: skip
        """Column by column, which takes half the time of line by line."""
        text = "\n".join(["", *images, ""])
        if any(odd in text for odd in _ODD):
            names = [_inside(_stem(image)) for image in images]
            self.image_hashes.extend([hash(os.path.normpath(os.path.join(self.before, image))) for image in images])
        else:  # the same, in a third of the time
            names = [_name(image) for image in images]
            self.image_hashes.extend([hash(self.before + image) for image in images])
        if any(ids):
            names = [_inside(id) if id else name for id, name in zip(ids, names, strict=True)]
        if any(groups):
            both = zip(groups, names, strict=True)
            names = [f"{_inside(group.replace('/', '_'))}/{name}" if group else name for group, name in both]
        if any(words):
            self.words.extend(_word(w, self.file, n) if w else -1 for w, n in zip(words, numbers, strict=True))
        else:
            self.words.extend([-1] * len(names))
        self._note_sizes(numbers, heights, widths)
        self.lines.extend(numbers)
        self.grouped.extend(map(bool, groups))
        self.name_hashes.extend(map(hash, names))
        for texts, column in zip(self.texts, (names, images, masks), strict=True):
            texts.extend(column)

    def _note_sizes(self, numbers: Column, heights: Column, widths: Column) -> None:
        if not any(heights) and not any(widths):
            self.unsized = self.unsized or numbers[0]
            return
        for number, *sides in zip(numbers, heights, widths, strict=True):
            if sides == [None, None]:
                self.unsized = self.unsized or number
                continue
            for name, value in zip(("height", "width"), sides, strict=True):
                if not (value and value.isascii() and value.isdigit() and len(value) < 10 and int(value)):
                    said = "is missing" if value is None else f"is '{visible(value)}'"
                    raise DataError(f"{self.file} line {number}: '{name}' {said}; it must be a whole number of pixels.")
                self.sides.append(int(value))
            self.sized = self.sized or number


def _word(split: str, file: Path, number: int) -> int:
    """The number of the word for a split; DataError for any other word."""
    if split in _NUMBERS:
        return _NUMBERS[split]
    hint = nearest(split, SPLITS)
    raise DataError(
        f"{file} line {number} has the split '{visible(split)}'; it must be train, val or test.{hint if 'Did' in hint else ''}"
    )


def distinct(lists: Sequence[Rows]) -> None:
    """DataError for an image that is listed twice, and for two images of one name."""
    ends = np.cumsum([len(rows.pairs) for rows in lists])

    def at(n: int) -> tuple[Rows, int]:
        number = int(np.searchsorted(ends, n, "right"))
        return lists[number], n - int(ends[number]) + len(lists[number].pairs)

    def image(n: int) -> str:
        rows, row = at(n)
        return os.path.abspath(rows.pairs.images[row])

    def name(n: int) -> str:
        rows, row = at(n)
        return rows.pairs.ids[row]

    again = _repeated(np.concatenate([rows.image_hashes for rows in lists]), image)
    named = _repeated(np.concatenate([rows.name_hashes for rows in lists]), name)
    if again and (not named or again[1] <= named[1]):
        (first, n), (second, m) = at(again[0]), at(again[1])
        text = f"lists the image {second.pairs.images[m]} again, which {first.where(n)} has; keep one of the two."
        raise DataError(f"{second.where(m)} {text}")
    if named:
        (first, n), (second, m) = at(named[0]), at(named[1])
        raise DataError(
            f"{second.where(m)} and {first.where(n)} both have an image named '{visible(name(named[0]))}'; tell them apart by "
            "a column id."
        )


def _repeated(hashes: np.ndarray, text: Any) -> tuple[int, int] | None:
    """The first position whose text came before, and where that was: (before, again)."""
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    found = [(int(order[n]), int(order[n + 1])) for n in equal]
    return min((two for two in found if text(two[0]) == text(two[1])), key=lambda two: two[1], default=None)


def _check_there(rows: Rows) -> None:
    count = len(rows.pairs)
    for n in even(count, count if count <= headers.LARGE else headers.SAMPLE).tolist():
        for kind, paths in (("image", rows.pairs.images), ("mask", rows.pairs.masks)):
            if not os.path.isfile(paths[n]):
                raise DataError(
                    f"{rows.where(n)}: the {kind} {visible(paths[n])} does not exist; paths are relative to the list's folder."
                )


def _name(image: str) -> str:
    """The stem of a path without anything odd."""
    stem, dot, suffix = image.rpartition(".")
    return stem if dot and "/" not in suffix else image


def _stem(image: str) -> str:
    return os.path.splitext(os.path.normpath(image.replace("\\", "/")))[0]


def _inside(name: str) -> str:
    """A name that leads nowhere else when files are called by it: no drive, no root, no way up."""
    parts = [part for part in re.sub("^[A-Za-z]:", "", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "image"
