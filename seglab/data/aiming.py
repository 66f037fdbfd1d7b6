"""Rare-class sampling: a share of the training samples is aimed at pixels of chosen classes, the rest stays as it is.

Which sample is aimed at what follows from (seed, epoch, index), and the shares are met exactly in every epoch: the samples
are dealt out, not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from seglab.data.sampling import permutation, shown_in_epoch
from seglab.data.transforms import sample_seed
from seglab.errors import ConfigError, DataError, nearest
from seglab.types import Spec

RARE = "rare"  # in the settings: a share for the rare classes together


class Aim:
    """`aim(epoch, index) -> (class, image)`, or None for a sample that is not aimed.

    shares: class -> share of the samples, and `rare` -> a share dealt out among the rare classes, which have less than an
    even share 1/K of the pixels, in proportion to 1 / sqrt(their share), as Gupta et al. 2019 repeat images
    (arXiv:1908.03195). `pixels`: (N, K) of each class in each training image. ConfigError for impossible shares, DataError
    for a class that no image shows. An incomplete last batch of `batch_size` is never seen, and does not count.
    """

    def __init__(self, shares: Mapping[str, float], spec: Spec, pixels: np.ndarray, seed: int, batch_size: int) -> None:
        self.seed, self.images_in_all, self.classes = seed, len(pixels), spec.classes
        self.length = shown_in_epoch(len(pixels), batch_size)
        self._order: tuple[int, np.ndarray] = -1, np.zeros(0, np.int32)
        self.shares = class_shares(shares, spec, pixels)
        self.images = [np.flatnonzero(column) for column in pixels.T]
        self._ends = np.cumsum(self.shares)
        self._stride = _coprime(self.length)

    def __call__(self, epoch: int, index: int) -> tuple[int, int] | None:
        """The class at which sample `index` of the epoch is aimed, and the index of an image that shows it."""
        position = int(self._positions(epoch)[index])
        if position >= self.length:
            return None
        # A walk through all places of 0..1 in strides of about the golden ratio: each class gets its share of any epoch to
        # within one sample, and neighbours differ. The walk begins somewhere else in each epoch.
        start = sample_seed(self.seed, epoch, 0, "aim")
        between = (start >> 32) / 2**31  # 0..1: of a share that is no whole number of samples the part comes in some epochs
        place = ((position * self._stride + start) % self.length + between) / self.length
        if place >= self._ends[-1]:
            return None
        target = int(np.searchsorted(self._ends, place, side="right"))
        rng = np.random.default_rng(sample_seed(self.seed, epoch, index, "aimed image"))
        return target, int(self.images[target][rng.integers(len(self.images[target]))])

    def _positions(self, epoch: int) -> np.ndarray:
        """Where in the order of the epoch each image is; kept until another epoch is asked for."""
        if self._order[0] != epoch:
            positions = np.zeros(self.images_in_all, np.int32)
            positions[permutation(self.images_in_all, self.seed, epoch)] = np.arange(self.images_in_all, dtype=np.int32)
            self._order = epoch, positions
        return self._order[1]

    def __str__(self) -> str:
        """The shares in words: 'pole 12 %, sign 8 %'."""
        told = sorted(zip(self.shares, self.classes, strict=True), key=lambda one: -one[0])
        return ", ".join(f"{name} {share:.1%}" for share, name in told if share >= 0.001)


def check_shares(shares: Mapping[str, float], spec: Spec) -> None:
    """ConfigError unless these are shares of known classes that leave room for one another."""
    for name, share in shares.items():
        if not isinstance(name, str):
            raise ConfigError(f"data.sampling.{name}: name the class, not its id; the classes are {', '.join(spec.classes)}.")
        if name != RARE and name not in spec.classes:
            raise ConfigError(f"data.sampling has no class '{name}'.{nearest(name, [RARE, *spec.classes])}")
        if name == RARE and RARE in spec.classes:
            raise ConfigError(
                f"data.sampling.{RARE} is a share for all rare classes, and a class has this name; rename the class."
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(f"data.sampling.{name} is {share!r}; it must be a share of the samples, from 0 to 1.")
    if sum(shares.values()) > 1 + 1e-9:
        raise ConfigError(f"The shares of data.sampling add up to {sum(shares.values()):g}; they must leave room in 1.")


def class_shares(shares: Mapping[str, float], spec: Spec, pixels: np.ndarray) -> np.ndarray:
    """The share of the samples that is aimed at each class, K."""
    check_shares(shares, spec)
    total = pixels.sum(0, dtype=np.int64)
    out = np.array([shares.get(name, 0.0) for name in spec.classes], np.float64)
    for name, share, count in zip(spec.classes, out, total, strict=True):
        if share and not count:
            raise DataError(f"data.sampling.{name}: no training image shows this class; leave it out.")
    if shares.get(RARE):
        if not total.any():
            raise DataError("data.sampling.rare: no training image shows any class.")
        out += shares[RARE] * _rarity(total)
    return out


def _rarity(total: np.ndarray) -> np.ndarray:
    """How the classes share what is meant for rare ones; 0 for a class that is nowhere."""
    often = total / total.sum()
    even = max(1 / len(often), often[total > 0].min())  # where all are equal, all are rare
    weight = np.where((total > 0) & (often <= even), 1 / np.sqrt(np.maximum(often, 1e-12)), 0)
    return weight / weight.sum()


def _coprime(length: int) -> int:
    """A stride near the golden ratio of `length` after which every place comes once."""
    stride = max(1, round(length * (math.sqrt(5) - 1) / 2))
    return next(s for step in range(length + 1) for s in (stride + step, stride - step) if s > 0 and math.gcd(s, length) == 1)
