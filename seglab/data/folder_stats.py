"""Channel conversion, and the mean and standard deviation of a sample of the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from seglab.data.reading import read_image
from seglab.errors import ConfigError, DataError

_PIXELS = 50_000  # of each image, on a regular grid


def to_channels(image: np.ndarray, channels: int, path: str) -> np.ndarray:
    """H W C with `channels` channels: grey is repeated, RGB becomes grey by luma (Rec. 601), alpha is dropped."""
    stored = image.shape[2]
    if stored == channels:
        return image
    if channels not in (1, 3) or stored not in (1, 2, 3, 4):
        raise DataError(
            f"{path} has {stored} channels, which data.channels={channels} cannot be made from; use 1 or 3, or leave it out."
        )
    if stored in (2, 4):
        image = np.ascontiguousarray(image[..., : stored - 1])
    if image.shape[2] == channels:
        return image
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if channels == 3 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def read_alike(path: str, channels: int, as_float: bool) -> np.ndarray:
    """An image file as H W C in the channels and, where some of the data set are float, the type that all of it has."""
    image = to_channels(read_image(path), channels, path)
    return image.astype(np.float32) / np.float32(255) if as_float and image.dtype == np.uint8 else image


def both_or_neither(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """ConfigError for one of them without the other."""
    if (mean is None) != (std is None):
        raise ConfigError("data.mean and data.std belong together; give both, or neither to have them measured.")


def mean_and_std(images: Iterable[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, over a grid of pixels of every image (uint8 is scaled to 0..1); a constant channel gets std 1."""
    count, total, square = 0, np.zeros(1), np.zeros(1)
    for image in images:
        step = max(1, round((image.shape[0] * image.shape[1] / _PIXELS) ** 0.5))
        pixels = image[::step, ::step].reshape(-1, image.shape[2]).astype(np.float64)
        if image.dtype == np.uint8:
            pixels /= 255
        count += len(pixels)
        total = total + pixels.sum(axis=0)
        square = square + (pixels**2).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    std[std < 1e-6] = 1.0
    return tuple(float(f"{v:.6g}") for v in mean), tuple(float(f"{v:.6g}") for v in std)
