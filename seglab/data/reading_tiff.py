"""TIFF headers and pixels through tifffile, which reads any number of channels, 32 bits and floats."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import tifffile

Layout = Literal["auto", "first", "last"]
_RGB = 2  # TIFF tag PhotometricInterpretation
# Compressions that change values, or may: JPEG, JPEG 2000, WebP, JPEG XL, by TIFF's numbers.
_LOSSY = (6, 7, 33007, 34892, 33003, 33004, 33005, 34712, 50001, 50002, 52546)
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_reading = threading.local()


class Truncated(ValueError):
    """Pixels lie past the end of the file."""


class Lossy(ValueError):
    """A mask is asked for of a file whose compression changes values, or may."""


def _unheard(record: logging.LogRecord) -> bool:
    return not getattr(_reading, "depth", 0)


logging.getLogger("tifffile").addFilter(_unheard)  # what keeps it from reading comes as an exception


@contextmanager
def opened(file: Any) -> Iterator[Any]:
    """A TiffFile of a path or an opened file, about which tifffile logs nothing (GDAL's -3.4028235e+38, at every opening)."""
    _reading.depth = getattr(_reading, "depth", 0) + 1
    try:
        with tifffile.TiffFile(file) as opened:
            yield opened
    finally:
        _reading.depth -= 1


def lossy(file: Any) -> bool:
    """Whether the compression of an opened TiffFile changes values, or may."""
    return file.pages.first.compression in _LOSSY


def mask_page(file: Any) -> Any:
    """The page that says where the first one has data (GDAL's internal mask); None where there is none."""
    for page in file.pages[1:]:
        kind = int(getattr(page, "subfiletype", 0))
        if kind & _MASK and not kind & _REDUCED:
            return page
    return None


def described(file: Any, size: int, layout: Layout = "auto") -> tuple[int, int, int, int, bool, str]:
    """(height, width, channels, layers, alpha, dtype) of the first series of an opened TiffFile of `size` bytes.

    Truncated if pixels lie past the file's end.
    """
    series, page = file.series[0], file.pages.first
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    if max(ends, default=0) > size:
        raise Truncated("the file is truncated")
    (height, width, layers), _ = _shape(series.shape, series.axes, layout)
    palette = page.colormap is not None
    alpha = page.photometric == _RGB and layers == 4
    dtype = "uint8" if page.bitspersample == 1 else np.dtype(series.dtype).name
    return height, width, 3 if palette else layers, layers, alpha, dtype


def decode(data: bytes, indices: bool) -> np.ndarray:
    """The first series as H W or H W C; a palette gives indices if asked, else 8-bit RGB. Lossy for such indices."""
    with opened(io.BytesIO(data)) as file:
        if indices and lossy(file):
            raise Lossy
        colormap, values = file.pages.first.colormap, pixels(file)
        if values.shape[2] == 1:
            values = values[..., 0]
        if colormap is not None and not indices:
            return (colormap[:, values] >> 8).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(values)


def pixels(file: Any, layout: Layout = "auto") -> np.ndarray:
    """The first series of an opened TiffFile as H W C, as stored (a view: its memory may lie in another order)."""
    series = file.series[0]
    shape, axis = _shape(series.shape, series.axes, layout)
    values = series.asarray(maxworkers=1)  # a DataLoader already has a process per core
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if axis is None:
        return values.reshape(shape)
    height, width, layers = shape
    return np.moveaxis(values.reshape((layers, height, width) if axis == 0 else shape), axis, -1)


def _shape(shape: tuple[int, ...], axes: str, layout: Layout) -> tuple[tuple[int, int, int], int | None]:
    """(H, W, C) of a stored shape, and the channel axis (0, 2, or None where there is none).

    It is the axis that the file calls samples, else (pages, for example) the smaller of the first and the last.
    """
    if len(shape) > 3:  # empty time and depth axes
        kept = [n for n, length in enumerate(shape) if length > 1]
        shape, axes = tuple(shape[n] for n in kept), "".join(axes[n] for n in kept)
    if len(shape) == 2:
        return (shape[0], shape[1], 1), None
    if len(shape) != 3:
        raise ValueError(f"its shape {shape} is not height x width x channels of one image")
    last = {"first": False, "last": True, "auto": axes[2] == "S" if "S" in axes else shape[2] <= shape[0]}[layout]
    return ((shape[0], shape[1], shape[2]), 2) if last else ((shape[1], shape[2], shape[0]), 0)
