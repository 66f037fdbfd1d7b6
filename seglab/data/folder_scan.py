"""The quick pass before training: every header, and the values of an even sample of the masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from seglab.data.layout import Pair
from seglab.data.mask_codec import is_gray
from seglab.data.reading import JPEG_MASK, WRONG_TYPE, Header, read_header, read_mask
from seglab.errors import DataError

_CHUNK, _THREADS, _QUIET_BELOW = 32, 8, 500
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


def scan(pairs: Sequence[Pair]) -> list[Scan]:
    """Read all headers (in threads, for slow disks); DataError for a damaged file or a mask of another size."""
    chunks = [pairs[i : i + _CHUNK] for i in range(0, len(pairs), _CHUNK)]
    found = in_threads(lambda some: [_scan_pair(one) for one in some], chunks, "Reading headers", len(pairs))
    return [one for some in found for one in some]


def see(paths: Sequence[str], layered: bool) -> list[Seen]:
    """The values of some masks; DataError names a mask that cannot be decoded."""
    return list(in_threads(lambda path: _see(path, layered), paths, "Looking at masks", len(paths) * 4))


def even_sample(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spread, first and last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _scan_pair(pair: Pair) -> Scan:
    image, mask = read_header(pair.image), read_header(pair.mask)
    if mask.format == "jpeg":
        raise DataError(JPEG_MASK.format(pair.mask))
    if not image.dtype.startswith(("uint8", "uint16", "float")):
        raise DataError(WRONG_TYPE.format(pair.image, image.dtype))
    if (image.height, image.width) != (mask.height, mask.width):
        turned = " (turned by 90 degrees: EXIF orientation is ignored, so draw masks on the pixels as stored)"
        raise DataError(
            f"{pair.mask} is {mask.height} x {mask.width} (height x width), but its image {pair.image} is "
            f"{image.height} x {image.width}{turned if (image.width, image.height) == (mask.height, mask.width) else ''}; "
            "give both the same size."
        )
    return Scan(image, mask, (os.path.getsize(pair.image), os.path.getsize(pair.mask)))


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
    pool = ThreadPoolExecutor(_THREADS)
    try:
        done: Iterable = pool.map(work, items)
        console = Console(stderr=True)
        quiet = count < _QUIET_BELOW or not console.is_terminal
        yield from track(done, title, len(items), console=console, transient=True, disable=quiet)
    finally:
        pool.shutdown(cancel_futures=True)  # at the first bad file the rest need not be read
