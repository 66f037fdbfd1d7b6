"""TIFF headers and pixels through tifffile, which reads any number of channels, 32 bits and floats."""

from __future__ import annotations

import io
import os

import numpy as np
import tifffile

_RGB = 2  # TIFF tag PhotometricInterpretation


def header(path: str) -> tuple[int, int, int, int, bool, str]:
    """(height, width, channels, layers, alpha, dtype) of the first series; ValueError if pixels lie past the file's end."""
    with tifffile.TiffFile(path) as file:
        series, page = file.series[0], file.pages.first
        ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if series.dataoffset is not None:
            ends.append(series.dataoffset + series.nbytes)
        if max(ends, default=0) > os.path.getsize(path):
            raise ValueError("the file is truncated")
        height, width, layers = _shape(series.shape)
        palette = page.colormap is not None
        alpha = page.photometric == _RGB and layers == 4
        dtype = "uint8" if page.bitspersample == 1 else str(series.dtype)
        return height, width, 3 if palette else layers, layers, alpha, dtype


def decode(data: bytes, indices: bool) -> np.ndarray:
    """The first series as H W or H W C; a palette gives indices if asked, else 8-bit RGB."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        pixels = file.series[0].asarray(maxworkers=1)  # a DataLoader already has a process per core
        height, width, layers = _shape(pixels.shape)
        if layers == 1:
            pixels = pixels.reshape(height, width)
        else:
            pixels = pixels.squeeze() if pixels.ndim > 3 else pixels
            pixels = pixels if pixels.shape == (height, width, layers) else np.moveaxis(pixels, 0, -1)
        if page.colormap is not None and not indices:
            return (page.colormap[:, pixels] >> 8).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(pixels)


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of a stored shape. The channel axis is the smaller of the first and the last axis."""
    if len(shape) > 3:
        shape = tuple(n for n in shape if n > 1)  # empty time and depth axes
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if len(shape) != 3:
        raise ValueError(f"its shape {shape} is not height x width x channels of one image")
    return (shape[0], shape[1], shape[2]) if shape[2] <= shape[0] else (shape[1], shape[2], shape[0])
