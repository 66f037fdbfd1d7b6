"""The values of a volume as a network sees them: a window of the scanner's units, or of the volume's own percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seglab.errors import ConfigError, DataError

PERCENTILES = (0.5, 99.5)
_VOXELS = 1_000_000  # of each channel, for percentiles


def check_window(window: Sequence[float] | None) -> tuple[float, float] | None:
    """(low, high), or None; ConfigError for anything else."""
    if window is None:
        return None
    if len(window) != 2 or not all(map(math.isfinite, window)) or not window[0] < window[1]:
        raise ConfigError(f"data.window={list(window)} must be two numbers, the lower one first, such as [-160,240].")
    return float(window[0]), float(window[1])


def own_window(whole: np.ndarray, path: str) -> np.ndarray:
    """C 2: the percentiles of each channel of a volume X Y Z C, over an even part of its voxels; DataError if not finite."""
    voxels = whole.reshape(-1, whole.shape[-1])
    some = voxels[:: max(1, len(voxels) // _VOXELS)].astype(np.float32)
    refuse_gaps(some, path)
    return np.percentile(some, PERCENTILES, axis=0).T


def windowed(values: np.ndarray, window: np.ndarray | tuple[float, float], path: str) -> np.ndarray:
    """Float32 in 0..1 of values ... C, clipped to one window or to one of each channel (C 2)."""
    refuse_gaps(values, path)
    low, high = np.asarray(window, np.float32).reshape(-1, 2).T
    out = values.astype(np.float32)
    out -= low
    out /= np.maximum(high - low, np.float32(1e-6))  # a constant volume has no width
    return np.clip(out, 0, 1, out=out)


def refuse_gaps(values: np.ndarray, path: str) -> None:
    """DataError if a value is NaN or infinite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{path} holds NaN or infinite values; replace them by numbers.")
