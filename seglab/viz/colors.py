"""Class ids to colours: one table per Spec, with rows for what is no class."""

from __future__ import annotations

import numpy as np

from seglab.errors import DataError
from seglab.types import Color, Spec

IGNORE_COLOR = (0, 0, 0)
UNKNOWN_COLOR = (255, 0, 255)  # an id that is neither a class nor ignore: a picture warns, it does not end a run
NOTHING_COLOR = (60, 60, 60)  # multilabel: a pixel without any class

# For objects beside each other: far apart in lightness too, so that they differ for most forms of colour blindness (from Paul
# Tol's schemes, https://sronpersonalpages.nl/~pault/data/colourschemes.pdf, with brighter blues for dark images).
OBJECT_COLORS: tuple[Color, ...] = (
    (51, 187, 238), (238, 119, 51), (238, 221, 136), (170, 51, 119), (0, 153, 136), (255, 170, 187), (122, 92, 255),
    (185, 242, 255), (204, 51, 17),
)  # fmt: skip


def table(spec: Spec) -> np.ndarray:
    """The colours of `codes`, (K + 3) 3 uint8: the classes, then ignore, unknown id, and no class at all."""
    return np.array([*spec.colors, IGNORE_COLOR, UNKNOWN_COLOR, NOTHING_COLOR], np.uint8)


def codes(mask: np.ndarray, spec: Spec) -> np.ndarray:
    """Rows of the colour table for a mask of any integer type, H W: 0..K-1 class, K ignore, K+1 unknown id, K+2 no class.

    A multilabel mask H W K (0, 1 or ignore) shows the last class that is set; where none is set but one is ignored, ignore.
    """
    mask, k = np.asarray(mask), spec.num_classes
    if mask.ndim == 3 and mask.shape[2] == k:
        out = np.full(mask.shape[:2], k + 2, np.int32)
        out[(mask == spec.ignore_index).any(2)] = k
        for c in range(k):
            out[mask[..., c] == 1] = c
        return out
    if mask.ndim != 2:
        raise DataError(f"A mask of shape {mask.shape} cannot be drawn; it must be H W of ids, or H W {k} of 0 and 1.")
    # Compared before the cast, so that ids of any size and sign stay what they are.
    out = np.where((mask >= 0) & (mask < k), mask, k + 1).astype(np.int32)
    out[mask == spec.ignore_index] = k
    return out


def colorize(mask: np.ndarray, spec: Spec) -> np.ndarray:
    """A mask (H W ids, or H W K multilabel with later classes on top) in the Spec's colours, H W 3 uint8.

    Ignored pixels are black; ids beyond the classes are magenta.
    """
    return table(spec)[codes(mask, spec)]


def background(spec: Spec) -> int | None:
    """The id of the class that is drawn as bare image: 0 in binary mode, else the class named 'background', else None."""
    if spec.mode == "binary":
        return 0
    names = [name.lower() for name in spec.classes]
    return names.index("background") if "background" in names else None


def object_colors(spec: Spec) -> np.ndarray:
    """The colours for objects, P 3 uint8: OBJECT_COLORS, without those that look like a class's where five others are left."""
    own, classes = np.array(OBJECT_COLORS), np.array(spec.colors[1:] or spec.colors)
    apart = np.linalg.norm(own[:, None] - classes, axis=2).min(1) > 80
    return (own[apart] if apart.sum() >= 5 else own).astype(np.uint8)


def spread(boxes: np.ndarray, near: float, count: int, given: np.ndarray) -> np.ndarray:
    """For each box (N 4: x1 y1 x2 y2) a number below `count` that no box within `near` pixels has, as far as they go round.

    `given` N are numbers that are taken already, or -1. In order, and always the same; of those free, the least used.
    """
    picked = given.copy()
    used = np.bincount(picked[picked >= 0], minlength=count)
    low, high = boxes[:, :2] - near, boxes[:, 2:] + near
    for i in np.flatnonzero(picked < 0):
        close = (low[i] < boxes[:, 2:]).all(1) & (high[i] > boxes[:, :2]).all(1) & (picked >= 0)
        taken = np.bincount(picked[close], minlength=count)
        picked[i] = np.lexsort((used, taken))[0]
        used[picked[i]] += 1
    return picked
