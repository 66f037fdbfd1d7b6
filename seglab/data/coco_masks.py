"""An annotation's segmentation, in each of COCO's three forms, as a compressed run length whose every number is checked.

The library that draws polygons and reads compressed strings believes what it is given: a damaged string makes it read and
write memory that is not its own. So strings are taken apart here, and only sound numbers reach it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seglab.data.coco_reading import shown
from seglab.rle import runs

_FAR = 10  # image sizes; the library walks along every edge, so a coordinate of 1e12 would fill the memory
_GROUPS = 7  # characters of 5 bits that the longest number may take


def run_length(segmentation: Any, size: tuple[int, int]) -> bytes:
    """The compressed run length of polygons or of either form of RLE; ValueError ("has ...") says what is wrong."""
    if isinstance(segmentation, dict):
        return _compressed(_counts(segmentation, size), size)
    if segmentation in (None, []):
        raise ValueError(
            "has no segmentation (at most a box), but masks are needed here; draw its outline, or remove the annotation."
        )
    if not isinstance(segmentation, list):
        raise ValueError(f"has the segmentation {shown(segmentation)}; it must be a list of polygons or an RLE.")
    from faster_coco_eval import mask as api

    height, width = size
    parts = api.frPyObjects([_polygon(part, size) for part in segmentation], height, width)
    return (parts[0] if len(parts) == 1 else api.merge(parts))["counts"]


def _polygon(part: Any, size: tuple[int, int]) -> np.ndarray:
    """The coordinates x1 y1 x2 y2 ... as float64."""
    if isinstance(part, int | float):
        raise ValueError("has a bare list of numbers as its segmentation; put brackets around each polygon.")
    if not isinstance(part, np.ndarray):
        raise ValueError(f"has a polygon that is no list of numbers x1, y1, x2, ... ({shown(part)}); draw it again.")
    if part.size < 6:
        raise ValueError(f"has a polygon of {part.size} numbers, and three points have 6; complete or remove it.")
    if part.size % 2:
        raise ValueError(f"has a polygon of {part.size} numbers, an odd number of coordinates; write x and y in pairs.")
    points = part.astype(np.float64)
    if not np.abs(points).max() <= _FAR * max(size):  # false for NaN too
        value = next(v for v in points.tolist() if not abs(v) <= _FAR * max(size))
        raise ValueError(
            f"has the coordinate {value:g}, but its image is {size[0]} x {size[1]} (height x width); correct the "
            "polygon, or remove the annotation."
        )
    return points


def _counts(rle: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The run lengths as int64: none negative, together the pixels of the image."""
    told = rle.get("size")
    if not isinstance(told, list) or told != list(size):
        raise ValueError(
            f"has an RLE of size {shown(told)}, but its image is {list(size)} (height, width); make both the same."
        )
    counts = rle.get("counts")
    if isinstance(counts, str):
        found = _unpacked(counts)
    else:
        found = counts if isinstance(counts, np.ndarray) and counts.dtype.kind == "i" else None
    if found is None:
        raise ValueError(f"has an RLE whose counts cannot be read ({shown(counts)}); write its mask again.")
    total, pixels = sum(found.tolist()), size[0] * size[1]
    if total != pixels or found.min(initial=0) < 0:
        which = f"add up to {total}" if total != pixels else f"hold {found.min()}"
        raise ValueError(f"has an RLE whose counts {which}, but its image has {pixels} pixels; write its mask again.")
    return found.astype(np.int64)


def _unpacked(text: str) -> np.ndarray | None:
    """The counts of a compressed string, or None where it is damaged.

    A character from '0' on is 5 bits; bit 6 says that more follow, so that the last has none.
    """
    data = text.encode("utf-8", "surrogatepass")
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    ends = np.flatnonzero(codes < 32)
    if np.diff(ends, prepend=-1).max() > _GROUPS:
        return None
    return runs(data)


def _compressed(counts: np.ndarray, size: tuple[int, int]) -> bytes:
    """The library's string. Runs of no length are taken out: boxes would reach to them."""
    from faster_coco_eval import mask as api

    if (counts[1:] == 0).any():
        inside = np.arange(counts.size)[counts > 0] % 2
        starts = np.flatnonzero(np.r_[True, inside[1:] != inside[:-1]])
        counts = np.r_[[0] * int(inside[0]), np.add.reduceat(counts[counts > 0], starts)].astype(np.int64)
    return api.frPyObjects({"size": list(size), "counts": counts.tolist()}, *size)["counts"]
