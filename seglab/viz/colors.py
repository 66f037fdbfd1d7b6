"""Class ids to colours: one table per Spec, with rows for what is no class."""

from __future__ import annotations

import numpy as np

from seglab.errors import DataError
from seglab.types import Spec

IGNORE_COLOR = (0, 0, 0)
UNKNOWN_COLOR = (255, 0, 255)  # an id that is neither a class nor ignore: a picture warns, it does not end a run
NOTHING_COLOR = (60, 60, 60)  # multilabel: a pixel without any class


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
