"""Turn the numbers or colours stored in a mask into class ids, by one table lookup per mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from seglab.errors import DataError
from seglab.types import Color


@dataclass(frozen=True)
class Codec:
    """Stored value -> class id. Values that `ids` leaves out become `rest`; without `rest` they are a DataError.

    `colored` masks are H W 3 and their values are colour codes (see `code`); `layered` ones are H W K (multilabel).
    The result is uint8 if the ids and one spare number fit, else int32 (never int64 or uint16: see albumentations).
    """

    ids: tuple[tuple[int, int], ...]
    rest: int | None = None
    colored: bool = False
    layered: bool = False
    remedy: str = ""  # how the sentence about an unknown id goes on; {value} stands for the id

    def __call__(self, stored: np.ndarray, path: str) -> np.ndarray:
        """The mask as H W (layered: H W K) class ids; DataError names the file, the value and the place."""
        dtype, bad = _spare(self.ids)
        rest = bad if self.rest is None else self.rest
        if self.colored and self.rest is None and stored.ndim == 3:
            out = self._by_color(stored, rest, path)
        else:
            values = self.values(stored, path)
            if values.dtype == np.uint16 and values.max() < 256:
                values = values.astype(np.uint8)  # the byte table is many times faster
            top, wraps = _unchanged(self.ids)
            if values.dtype == np.uint8 and top and (values + wraps if wraps else values).max(initial=0) < top + wraps:
                return values  # class ids already: nothing to look up, and nothing unknown
            if values.dtype == np.uint8 and dtype == np.uint8:
                out = cv2.LUT(values.reshape(len(values), -1), _table(self.ids, rest, 8)).reshape(values.shape)
            elif values.dtype in (np.uint8, np.uint16):
                out = _table(self.ids, rest, 8 * values.itemsize).take(values)  # half the time of table[values]
            else:
                out = _search(self.ids, rest, values).astype(dtype)
        if self.rest is None:
            wrong = out == bad
            if wrong.any():
                raise DataError(self._complaint(stored, wrong, path))
        return out

    def _by_color(self, stored: np.ndarray, rest: int, path: str) -> np.ndarray:
        # In strips that stay in the cache: colour codes take 4 bytes a pixel and numpy's indices 8, and asking the system
        # for that much memory costs several times the lookup.
        table = _table(self.ids, rest, 24)
        out = np.empty(stored.shape[:2], table.dtype)
        rows = max(1, 2**15 // stored.shape[1])
        for top in range(0, len(stored), rows):
            strip = slice(top, top + rows)
            table.take(self.values(stored[strip], path), out=out[strip], mode="clip")  # "raise" would copy `out`
        return out

    def values(self, stored: np.ndarray, path: str) -> np.ndarray:
        """The numbers to look up, H W or H W K: ids, or colour codes of a coloured mask."""
        if self.layered:
            return stored if stored.ndim == 3 else stored[..., None]
        if stored.ndim == 2:
            if self.colored:
                raise DataError(f"{path} has one channel, but the other masks have RGB colours; convert it to RGB colours.")
            return stored
        if self.colored:
            return codes(stored, path)
        if not is_gray(stored):
            raise no_table(path)
        return np.ascontiguousarray(stored[..., 0])

    def _complaint(self, stored: np.ndarray, wrong: np.ndarray, path: str) -> str:
        row, column = (int(i) for i in np.argwhere(wrong)[0][:2])
        place = f"at row {row}, column {column}"
        if self.colored:
            color = [int(v) for v in stored[row, column, :3]]
            return f"{path} holds the colour {color} {place}, which no class has; add it to data.colors or classes.json."
        value = int(self.values(stored, path)[wrong][0])
        return f"{path} holds the id {value} {place}, but {self.remedy.replace('{value}', str(value))}."


def no_table(path: str) -> DataError:
    """The error for a coloured mask where no colour table is known."""
    return DataError(
        f"{path} has RGB colours and no table says what they mean; give data.colors or a palette in classes.json "
        "(or data.mode=multilabel, if each channel is a class of its own)."
    )


def code(color: Color) -> int:
    """A colour as one number of 24 bits, red lowest."""
    return color[0] | color[1] << 8 | color[2] << 16


def codes(rgb: np.ndarray, path: str) -> np.ndarray:
    """H W int32 colour codes of an H W 3 (or 4, alpha dropped) uint8 mask."""
    if rgb.dtype != np.uint8:
        raise DataError(f"{path} has colours of type {rgb.dtype}; store it with 8 bits per channel, or as class ids.")
    four = cv2.cvtColor(np.ascontiguousarray(rgb[..., :3]), cv2.COLOR_RGB2RGBA)
    return np.bitwise_and(four.view("<i4")[..., 0], 0xFFFFFF)


def is_gray(stored: np.ndarray) -> bool:
    """Whether the colour channels are equal (alpha left out): a grey mask that some tool saved as RGB."""
    return stored.shape[2] == 2 or bool((stored[..., 0] == stored[..., 1]).all() and (stored[..., 0] == stored[..., 2]).all())


def _spare(ids: tuple[tuple[int, int], ...]) -> tuple[type, int]:
    """The result's dtype and a number in it that no id uses, to mark what is in no table."""
    used = {new for _, new in ids}
    spare = next((n for n in range(255, -1, -1) if n not in used), None)
    if min(used) >= 0 and max(used) <= 255 and spare is not None:
        return np.uint8, spare
    return np.int32, min(used) - 1


@lru_cache(maxsize=8)
def _unchanged(ids: tuple[tuple[int, int], ...]) -> tuple[int, np.uint8]:
    """(K, 0) if the ids are 0..K-1 as they are stored; (K, 1) if 255 is one too: with 1 added, it wraps to 0; else (0, 0)."""
    known = dict(ids)
    top = next(n for n in range(len(known) + 1) if known.get(n) != n)
    others = {old: new for old, new in ids if old >= top or old < 0}
    if not 0 < top < 255 or others not in ({}, {255: 255}):
        return 0, np.uint8(0)
    return top, np.uint8(bool(others))


@lru_cache(maxsize=8)
def _table(ids: tuple[tuple[int, int], ...], rest: int, bits: int) -> np.ndarray:
    """The lookup table; cached in each process rather than kept in the Codec, so that workers are not sent 16 MB."""
    table = np.full(2**bits, rest, _spare(ids)[0])
    for old, new in ids:
        if 0 <= old < len(table):
            table[old] = new
    return table


def _search(ids: tuple[tuple[int, int], ...], rest: int, values: np.ndarray) -> np.ndarray:
    """The same lookup for 32-bit and signed values, where a table would not fit."""
    old, new = np.array(sorted(ids), dtype=np.int64).T
    at = np.searchsorted(old, values).clip(max=len(old) - 1)
    return np.where(old[at] == values, new[at], rest)
