"""Where on Earth the pixels of a file lie, and how far apart two files of one size say that they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_SCALE, _TIEPOINT, _MATRIX, _KEYS = 33550, 33922, 34264, 34735  # GeoTIFF's TIFF tags
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072  # its keys
_POINT, _USER_DEFINED = 2, 32767


class Grid(NamedTuple):
    """x = a column + b row + c, y = d column + e row + f at the upper left corner of a pixel; EPSG's number, if told."""

    transform: tuple[float, float, float, float, float, float]
    epsg: int | None = None

    def matrix(self) -> np.ndarray:
        """The transform as 3 3, for points (column, row, 1)."""
        return np.array([*self.transform, 0, 0, 1], np.float64).reshape(3, 3)


def of_tags(tags: Any) -> Grid | None:
    """The Grid that the tags of a page (as tifffile has them) give; None where there is none."""
    value = lambda code: None if (tag := tags.get(code)) is None else np.ravel(tag.value)  # noqa: E731
    scale, tie, matrix, keys = value(_SCALE), value(_TIEPOINT), value(_MATRIX), _keys(value(_KEYS))
    if matrix is not None and len(matrix) == 16:
        a, b, c, d, e, f = (float(matrix[n]) for n in (0, 1, 3, 4, 5, 7))
    elif scale is not None and tie is not None and len(scale) >= 2 and len(tie) >= 6 and scale[0] and scale[1]:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3] - tie[0] * a), float(tie[4] - tie[1] * e)
    else:
        return None
    if keys.get(_RASTER_TYPE) == _POINT:  # positions are those of the pixels' middles
        c, f = c - (a + b) / 2, f - (d + e) / 2
    known = [keys[key] for key in (_PROJECTED, _GEOGRAPHIC) if keys.get(key, _USER_DEFINED) != _USER_DEFINED]
    return Grid((a, b, c, d, e, f), known[0] if known else None)


def _keys(directory: np.ndarray | None) -> dict[int, int]:
    """The short values of a GeoKeyDirectory: rows of (key, where, count, value) behind a head of four numbers."""
    if directory is None or len(directory) < 4:
        return {}
    rows = directory[4 : len(directory) // 4 * 4].reshape(-1, 4)
    return {int(key): int(number) for key, where, _, number in rows if where == 0}


def apart(image: Grid, mask: Grid, size: tuple[int, int]) -> float:
    """How far, in pixels of the image, the corners of a mask of `size` (H, W) lie from the image's own; infinity if nowhere."""
    height, width = size
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    try:
        seen = np.linalg.solve(image.matrix(), mask.matrix() @ corners)
    except np.linalg.LinAlgError:
        return float("inf")
    return float(np.abs(seen[:2] - corners[:2]).max())
