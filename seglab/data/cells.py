"""The built-in data set: fluorescence-like fields of two kinds of cells, drawn from (seed, split, index); no files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from seglab.data.cells_drawing import draw
from seglab.data.source import Source
from seglab.errors import ConfigError, nearest
from seglab.types import Sample, Spec

_SPLITS = ("train", "val", "test")
_VERSION = 1  # raise it when the drawing changes, so that the fingerprint does
_CACHE_IMAGES, _CACHE_BYTES = 2000, 1 << 30
_COLORS = ((38, 40, 48), (72, 187, 219), (255, 159, 64))
# Per channel, over 600 training images of the default size.
_MEAN_STD = {1: ((0.2,), (0.16,)), 3: ((0.18, 0.19, 0.18), (0.14, 0.15, 0.15))}


class Cells(Source):
    """Drawn microscopy: classes background, round and spindle, with instance ids.

    `size` is a side or [height, width] in pixels, `cells` the (fewest, most) cells tried per 256x256 pixels of area.
    Image i of a split is a function of (seed, split, i, size, channels, cells): it stays when the counts change.
    """

    name = "cells"

    def __init__(
        self,
        size: int | Sequence[int] = 256,
        train: int = 160,
        val: int = 32,
        test: int = 48,
        channels: int = 3,
        cells: Sequence[int] = (12, 36),
        seed: int = 0,
    ):
        sides = (size, size) if isinstance(size, int) else size
        self._height, self._width = _pair("size", sides, 32, 8192, "a side or [height, width]")
        self._counts = {s: _whole(s, n, 0, 10_000_000) for s, n in zip(_SPLITS, (train, val, test), strict=True)}
        if isinstance(channels, bool) or channels not in (1, 3):
            raise ConfigError(f"data.channels is {channels!r}; the cells are drawn with 1 channel or 3.")
        self._cells = _pair("cells", cells, 1, 200, "[fewest, most] per 256x256 pixels")
        if self._cells[0] > self._cells[1]:
            raise ConfigError(f"data.cells is {list(cells)}; the first number must not exceed the second.")
        self._seed = _whole("seed", seed, 0, 2**32 - 1)
        mean, std = _MEAN_STD[channels]
        self.spec = Spec(
            ("background", "round", "spindle"), channels=channels, mean=mean, std=std, colors=_COLORS, instances=True
        )
        self._cache: dict[tuple[str, int], tuple[np.ndarray, ...]] = {}
        self._cached_bytes = 0

    def ids(self, split: str) -> list[str]:
        """Names such as train_0003."""
        return [f"{split}_{i:04d}" for i in range(self._count(split))]

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width), the same for every image."""
        return [(self._height, self._width)] * self._count(split)

    def load(self, split: str, index: int) -> Sample:
        """image H W C uint8, mask H W uint8, instances H W uint16 (0 none), free to be changed; IndexError past the end."""
        if not 0 <= index < self._count(split):
            raise IndexError(
                f"The split '{split}' of the drawn cells has {self._count(split)} images; there is no index {index}."
            )
        arrays = self._cache.get((split, index))
        if arrays is None:
            arrays = self._draw(split, index)
            held = sum(a.nbytes for a in arrays)
            # What is drawn first stays: images come in a new order every epoch, so that evicting would only cost time.
            if len(self._cache) < _CACHE_IMAGES and self._cached_bytes + held <= _CACHE_BYTES:
                self._cache[split, index] = arrays
                self._cached_bytes += held
        image, mask, instances = (a.copy() for a in arrays)
        size = (self._height, self._width)
        return {"image": image, "mask": mask, "instances": instances, "id": f"{split}_{index:04d}", "size": size}

    def fingerprint(self) -> str:
        """A short hash of everything that the drawing depends on."""
        told = (_VERSION, self._height, self._width, self._counts, self.spec.channels, self._cells, self._seed)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def _count(self, split: str) -> int:
        if split not in self._counts:
            raise ConfigError(f"There is no split '{split}'.{nearest(split, _SPLITS)}")
        return self._counts[split]

    def _draw(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, mask and instances, from a random stream addressed by (seed, split, index)."""
        address = np.random.SeedSequence([self._seed, _SPLITS.index(split), index])
        rng = np.random.Generator(np.random.SFC64(address))
        area = self._height * self._width / 256**2
        count = max(1, round(area * rng.uniform(self._cells[0], self._cells[1])))
        return draw(rng, self._height, self._width, self.spec.channels, count)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_cached_bytes": 0}  # a spawned worker draws its own


def _whole(key: str, value: object, low: int, high: int) -> int:
    """The value, if it is a whole number in low..high."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ConfigError(f"data.{key} is {value!r}; it must be a whole number from {low} to {high}.")
    return int(value)


def _pair(key: str, value: object, low: int, high: int, meaning: str) -> tuple[int, int]:
    """Two whole numbers in low..high."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ConfigError(f"data.{key} is {value!r}; it must be {meaning}.")
    return _whole(key, value[0], low, high), _whole(key, value[1], low, high)
