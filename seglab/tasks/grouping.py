"""How a semantic network's answer becomes objects: the pixels of each class are split into the things they belong to."""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2
import numpy as np
from scipy import ndimage

from seglab.errors import ConfigError
from seglab.rle import encode_ids, instances
from seglab.types import Instances, Spec


class Grouping(ABC):
    """Splits every class but 0, the background, into objects; those below `min_pixels` (at least 1) are dropped."""

    def __init__(self, min_pixels: int) -> None:
        if isinstance(min_pixels, bool) or not isinstance(min_pixels, int) or min_pixels < 1:
            raise ConfigError(f"instances.min_pixels is {min_pixels!r}; it must be a whole number of at least 1 (1 keeps all).")
        self.min_pixels = min_pixels

    @abstractmethod
    def split(self, region: np.ndarray) -> np.ndarray:
        """The objects of one class's region, bool H W, as ids H W int32: 0 outside, 1..N inside, every pixel in one."""

    def __call__(self, ids: np.ndarray, confidence: np.ndarray, spec: Spec) -> Instances:
        """The objects in class ids H W (binary: 0 and 1), the most certain first.

        `confidence` H W is the probability of the class predicted at each pixel; an object's score is its mean. Objects of
        equal score stay in the order of their classes and ids.
        """
        numbers, labels = np.zeros(ids.shape, np.int32), [0]
        for k in range(1, spec.num_classes):
            region = ids == k
            if region.any():
                found = self.split(region)
                numbers[region] = found[region] + len(labels) - 1
                labels += [k] * int(found.max())
        pixels = np.bincount(numbers.ravel(), minlength=len(labels))
        sums = np.bincount(numbers.ravel(), confidence.ravel(), len(labels))
        kept = 1 + np.flatnonzero(pixels[1:] >= self.min_pixels)
        scores = sums[kept] / pixels[kept]
        order = np.argsort(-scores, kind="stable")
        kept, (height, width) = kept[order], ids.shape
        return instances(encode_ids(numbers, kept.tolist()), (height, width), np.array(labels)[kept], scores[order])


class Components(Grouping):
    """Pixels that touch, also by a corner, are one object: right where objects keep apart."""

    def __init__(self, min_pixels: int = 16) -> None:
        super().__init__(min_pixels)

    def split(self, region: np.ndarray) -> np.ndarray:  # noqa: D102
        return cv2.connectedComponents(region.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]


class Watershed(Grouping):
    """Touching objects are cut where they narrow: a watershed of the distance to the region's edge.

    Beucher & Lantuejoul 1979; Vincent & Soille 1991, doi 10.1109/34.87344. The distance is smoothed by a Gaussian of `smooth`
    pixels (0: not at all). Two peaks are two objects if the pass between them lies `depth` pixels or more (above 0) below
    the lower one. Peaks that only keep a distance from each other would cut long objects along their level ridge.
    """

    def __init__(self, min_pixels: int = 16, smooth: float = 1.0, depth: float = 0.2) -> None:
        super().__init__(min_pixels)
        if not 0 <= smooth < float("inf"):
            raise ConfigError(f"instances.smooth is {smooth}; it must be 0 (no smoothing) or more pixels (1.0).")
        if not 0 < depth < float("inf"):
            raise ConfigError(f"instances.depth is {depth}; it must be above 0 pixels (0.2; the higher, the fewer cuts).")
        self.smooth, self.depth = smooth, depth

    def split(self, region: np.ndarray) -> np.ndarray:  # noqa: D102
        from skimage.segmentation import watershed

        if region.all() or not region.any():
            return region.astype(np.int32)
        # The image's border is no edge: an object goes on behind it as if mirrored there, and its peak is not moved inwards.
        # scipy's distance takes it so (and gives the same bits at every call, unlike OpenCV's), and "reflect" does.
        height = ndimage.distance_transform_edt(region)
        if self.smooth:
            height = ndimage.gaussian_filter(height, self.smooth, mode="reflect")
        height[~region] = -1  # so that every component has a peak inside
        basins = watershed(-height, mask=region, connectivity=2).astype(np.int32)
        return _merged(basins, height, self.depth)[basins]


def _merged(basins: np.ndarray, height: np.ndarray, depth: float) -> np.ndarray:
    """For each basin 0..N its new number, int32: over passes from high to low, the lower of two peaks joins the higher one
    if it rises less than `depth` above the pass.

    The same as a watershed from the h-maxima of the height, without a reconstruction, which takes ten times as long.
    """
    peaks = np.full(basins.max() + 1, -1.0)
    np.maximum.at(peaks, basins.ravel(), height.ravel())
    above = list(range(len(peaks)))

    def top(basin: int) -> int:
        while above[basin] != basin:
            basin = above[basin]
        return basin

    for first, second, level in _passes(basins, height):
        low, high = sorted((top(first), top(second)), key=lambda basin: peaks[basin])
        if peaks[low] - level < depth:
            above[low] = high
    return np.unique([top(basin) for basin in above], return_inverse=True)[1].astype(np.int32)


def _passes(basins: np.ndarray, height: np.ndarray) -> list[tuple[int, int, float]]:
    """The highest pass between each two basins that touch (also by a corner), as (basin, basin, level), the highest first."""
    rows, cols = basins.shape
    found = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[: rows - down, max(0, -right) : cols - max(0, right)]
        there = np.s_[down:, max(0, right) : cols + min(0, right)]
        a, b = basins[here], basins[there]
        meet = (a != b) & (a > 0) & (b > 0)
        pair = np.sort(np.stack([a[meet], b[meet]]), 0)
        found.append((*pair, np.minimum(height[here], height[there])[meet]))
    first, second, level = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((-level, second, first))
    first, second, level = first[order], second[order], level[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    best = np.lexsort((second[new], first[new], -level[new]))
    return list(zip(first[new][best].tolist(), second[new][best].tolist(), level[new][best].tolist(), strict=True))
