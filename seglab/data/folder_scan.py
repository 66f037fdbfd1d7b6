"""The quick pass before training: headers, and the values of an even sample of the masks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from seglab.data.compact import Compact, Sizes, even
from seglab.data.layout import Pair
from seglab.data.mask_codec import is_gray
from seglab.data.reading import JPEG_MASK, TIFF_MASK, WRONG_TYPE, Header, read_header, read_mask
from seglab.data.shards_bytes import shown_path, size_of
from seglab.errors import DataError

_CHUNK, _THREADS, _QUIET_BELOW = 32, 8, 500
_HEADER = [
    ("height", "i8"), ("width", "i8"), ("channels", "i4"), ("layers", "i4"), ("alpha", "?"), ("dtype", "U16"), ("format", "U8"),
    ("lossy", "?"),
]  # fmt: skip
_SCAN = np.dtype([("image", _HEADER), ("mask", _HEADER), ("bytes", "i8", (2,))])
T = TypeVar("T")


class Scan(NamedTuple):
    """The headers of one pair and the sizes of the two files in bytes."""

    image: Header
    mask: Header
    bytes: tuple[int, int]


class Seen(NamedTuple):
    """One sampled mask: its distinct values, or None if it holds RGB colours."""

    path: str
    values: frozenset[int] | None


class Scans(Compact[Scan]):
    """Many Scans, as an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def one(self, index: int) -> Scan:  # noqa: D102
        image, mask, (first, second) = self.array[index].item()
        return Scan(Header(*image), Header(*mask), (int(first), int(second)))

    def kinds(self) -> list[int]:
        """Where channels, layers, alpha or type come for the first time: what holds of these pairs holds of all."""
        kind = self.array[["image", "mask"]].copy()
        for header in (kind["image"], kind["mask"]):
            header["height"] = header["width"] = 0
        return sorted(np.unique(kind, return_index=True)[1].tolist())

    @property
    def sizes(self) -> Sizes:
        """Height and width of the images."""
        return Sizes(np.stack([self.array["image"]["height"], self.array["image"]["width"]], 1))


def kinds(pairs: Sequence[Pair], scans: Sequence[Scan]) -> Iterator[tuple[Pair, Scan]]:
    """The pairs and their headers, in order; of Scans only the first of each kind, which says all."""
    return ((pairs[n], scans[n]) for n in (scans.kinds() if isinstance(scans, Scans) else range(len(scans))))


def scan(pairs: Sequence[Pair]) -> Scans:
    """Read all headers (in threads, for slow disks); DataError for a damaged file or a mask of another size."""
    work = lambda at: np.array([scan_pair(one) for one in pairs[at : at + _CHUNK]], _SCAN)  # noqa: E731
    chunks = range(0, len(pairs), _CHUNK)
    return Scans(np.concatenate([np.empty(0, _SCAN), *in_threads(work, chunks, "Reading headers", len(pairs))]))


def see(paths: Sequence[str], layered: bool) -> list[Seen]:
    """The values of some masks; DataError names a mask that cannot be decoded."""
    return list(in_threads(lambda path: _see(path, layered), paths, "Looking at masks", len(paths) * 4))


def even_sample(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spread, first and last among them."""
    return list(items) if len(items) <= count else [items[n] for n in even(len(items), count).tolist()]


def scan_pair(pair: Pair) -> Scan:
    """Read the headers of one pair; DataError as of `scan`."""
    image, mask = read_header(pair.image), read_header(pair.mask)
    where, its = shown_path(pair.image), shown_path(pair.mask)
    if mask.format == "jpeg" or mask.lossy:
        raise DataError((TIFF_MASK if mask.lossy else JPEG_MASK).format(its))
    if not image.dtype.startswith(("uint8", "uint16", "float")):
        raise DataError(WRONG_TYPE.format(where, image.dtype))
    if (image.height, image.width) != (mask.height, mask.width):
        turned = " (turned by 90 degrees: EXIF orientation is ignored, so draw masks on the pixels as stored)"
        raise DataError(
            f"{its} is {mask.height} x {mask.width} (height x width), but its image {where} is "
            f"{image.height} x {image.width}{turned if (image.width, image.height) == (mask.height, mask.width) else ''}; "
            "give both the same size."
        )
    return Scan(image, mask, (size_of(pair.image), size_of(pair.mask)))


def _see(path: str, layered: bool) -> Seen:
    mask = read_mask(path)
    if mask.ndim == 3 and not layered:
        if not is_gray(mask):
            return Seen(path, None)
        mask = mask[..., 0]
    return Seen(path, frozenset(_distinct(mask)))


def _distinct(mask: np.ndarray) -> list[int]:
    if mask.dtype in (np.uint8, np.uint16):
        top = 256 if mask.dtype == np.uint8 else 65536
        flat = np.ascontiguousarray(mask).reshape(-1, 1)
        return [int(v) for v in np.flatnonzero(cv2.calcHist([flat], [0], None, [top], [0, top]))]
    return [int(v) for v in np.unique(mask)]


def in_threads(work: Callable[[T], object], items: Sequence[T], title: str, count: int) -> Iterator:
    """What `work` gives for each item, in order, with progress under `title` where `count` files take a while."""
    numbers: list[int] = []
    pool = ThreadPoolExecutor(_THREADS, initializer=lambda: numbers.append(threading.get_native_id()))
    try:
        done: Iterable = pool.map(work, items)
        console = Console(stderr=True)
        quiet = count < _QUIET_BELOW or not console.is_terminal
        yield from track(done, title, len(items), console=console, transient=True, disable=quiet)
    finally:
        pool.shutdown(cancel_futures=True)  # at the first bad file the rest need not be read
        _ended(numbers)


def _ended(numbers: Iterable[int]) -> None:
    """Wait until threads are gone from the system, too, a moment after Python has joined them (Linux, where workers fork).

    A thread that ends takes a lock of OpenCV; a worker forked just then would wait for ever for it to be given back.
    """
    until = time.monotonic() + 1
    while any(os.path.exists(f"/proc/self/task/{number}") for number in numbers) and time.monotonic() < until:
        time.sleep(0.001)
