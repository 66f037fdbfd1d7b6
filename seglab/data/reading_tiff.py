"""TIFF headers and pixels through tifffile, which reads any number of channels, 32 bits and floats."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import tifffile

Layout = Literal["auto", "first", "last"]
_RGB = 2  # TIFF tag PhotometricInterpretation


def described(file: Any, size: int, layout: Layout = "auto") -> tuple[int, int, int, int, bool, str]:
    """(height, width, channels, layers, alpha, dtype) of the first series of an opened TiffFile of `size` bytes.

    ValueError if pixels lie past the file's end.
    """
    series, page = file.series[0], file.pages.first
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    if max(ends, default=0) > size:
        raise ValueError("the file is truncated")
    (height, width, layers), _ = _shape(series.shape, series.axes, layout)
    palette = page.colormap is not None
    alpha = page.photometric == _RGB and layers == 4
    dtype = "uint8" if page.bitspersample == 1 else np.dtype(series.dtype).name
    return height, width, 3 if palette else layers, layers, alpha, dtype


def decode(data: bytes, indices: bool) -> np.ndarray:
    """The first series as H W or H W C; a palette gives indices if asked, else 8-bit RGB."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
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
