"""Images, masks and maps of ids at another size: an image is averaged or interpolated, of a mask no id is ever mixed."""

from __future__ import annotations

import cv2
import numpy as np

from seglab.errors import ConfigError


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Image H W C at (H, W) `size`: averaged when it shrinks, linear when it grows."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = cv2.resize(image, size[::-1], interpolation=how)
    return out if out.ndim == 3 else out[..., None]


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask H W (or H W K) at (H, W) `size`, nearest pixel centre; no id is ever mixed."""
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).reshape(*size, *mask.shape[2:])


def resize_layers(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps of ids H W L at (H, W) `size`, as masks are resized; one by one, since OpenCV takes four channels at most."""
    return np.stack([resize_mask(ids[..., i], size) for i in range(ids.shape[2])], -1)


def scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) times `scale`, rounded, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def check_scale(scale: float) -> None:
    """ConfigError unless images can be resized by this factor."""
    if not 0 < scale <= 16:
        raise ConfigError(f"data.scale is {scale}; it must be above 0 (0.5 = half size).")
