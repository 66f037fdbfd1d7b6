"""Sequences of a million names or sizes that are a few arrays, not a million objects.

Python writes into every object that it reads (its count of references), so that a forked worker gets a copy of each page of
objects it passes over. These hold no object per item: an item is made when it is asked for.
"""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

T = TypeVar("T")
_CHUNK = 65536  # texts that exist as objects at a time


class Compact(Sequence[T]):
    """Reads as a list does, and equals a list of the same items; what a slice gives is a list."""

    @abstractmethod
    def one(self, index: int) -> T:
        """The item at a position from 0 to len - 1."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.one(n) for n in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"position {index} of {len(self)}")
        return self.one(at)

    def __iter__(self) -> Iterator[T]:
        return map(self.one, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | Compact):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __add__(self, other: Iterable[T]) -> list[T]:
        return [*self, *other]

    def __radd__(self, other: Iterable[T]) -> list[T]:
        return [*other, *self]

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return repr(list(self))  # all of it: hashes are taken of it


class Texts(Compact[str]):
    """Strings as one array of UTF-8 and where each begins; with a `folder`, paths: each is joined to it when asked for."""

    def __init__(self, items: Iterable[str] = (), folder: str = "") -> None:
        self.folder = folder
        self._bytes, self._starts = bytearray(), np.zeros(1, np.int64)
        left = iter(items)
        while some := list(itertools.islice(left, _CHUNK)):
            self.extend(some)

    def extend(self, items: Collection[str]) -> None:
        """Add texts at the end: better many at a time."""
        # JSON can hold halves of surrogate pairs, file names bytes that are no UTF-8: `surrogatepass` keeps both.
        coded = [text.encode("utf-8", "surrogatepass") for text in items]
        ends = np.fromiter(map(len, coded), np.int64, len(coded)).cumsum() + len(self._bytes)
        self._bytes += b"".join(coded)
        self._starts = np.concatenate([self._starts, ends])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def one(self, index: int) -> str:  # noqa: D102
        text = self._bytes[self._starts[index] : self._starts[index + 1]].decode("utf-8", "surrogatepass")
        return os.path.join(self.folder, text) if self.folder else text

    def __iter__(self) -> Iterator[str]:
        for at in range(0, len(self), _CHUNK):
            ends = self._starts[at : at + _CHUNK + 1].tolist()
            texts = (self._bytes[a:b].decode("utf-8", "surrogatepass") for a, b in itertools.pairwise(ends))
            yield from (os.path.join(self.folder, text) for text in texts) if self.folder else texts

    def take(self, order: np.ndarray) -> Texts:
        """The texts at these positions, in this order."""
        if len(order) == len(self) and np.array_equal(order, np.arange(len(self))):
            return self
        out = Texts(folder=self.folder)
        begins, ends = self._starts[:-1][order], self._starts[1:][order]
        for at in range(0, len(order), _CHUNK):
            some = zip(begins[at : at + _CHUNK].tolist(), ends[at : at + _CHUNK].tolist(), strict=True)
            out._bytes += b"".join([self._bytes[a:b] for a, b in some])
        out._starts = np.concatenate([out._starts, (ends - begins).cumsum()])
        return out

    def order(self) -> np.ndarray:
        """The positions in the order in which `sorted` puts the texts."""
        texts = list(self)
        if all(a <= b for a, b in itertools.pairwise(texts)):
            return np.arange(len(texts))
        return np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64)

    def update(self, digest: Any) -> None:
        """Add the texts, without their folder, to a digest of hashlib."""
        digest.update(self._starts.astype("<i8", copy=False))
        digest.update(self._bytes)


class Sizes(Compact[tuple[int, int]]):
    """(height, width) of many images: an array N 2."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.array)

    def one(self, index: int) -> tuple[int, int]:  # noqa: D102
        height, width = self.array[index].tolist()
        return height, width

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((height, width) for height, width in self.array.tolist())

    def distinct(self) -> set[tuple[int, int]]:
        """The sizes that occur."""
        return {(height, width) for height, width in np.unique(self.array, axis=0).tolist()}


class Joined(Compact[T]):
    """Several sequences, one after the other."""

    def __init__(self, parts: Iterable[Sequence[T]]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    def one(self, index: int) -> T:  # noqa: D102
        number = int(np.searchsorted(self._ends, index, "right"))
        return self.parts[number][index - int(self._ends[number])]  # counted from the part's end

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self.parts)


def array_of(sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Sizes as an array N 2 of int64."""
    return sizes.array if isinstance(sizes, Sizes) else np.array(list(sizes), np.int64).reshape(-1, 2)


def even(length: int, count: int) -> np.ndarray:
    """At most `count` positions of a sequence, evenly spread, first and last among them."""
    if length <= count:
        return np.arange(length)
    return np.array([round(i * (length - 1) / (count - 1)) for i in range(count)])
