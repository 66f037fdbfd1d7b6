"""How far the difference of two groups of runs would move with other seeds and with other test images.

A run's score is taken apart as  mean + seed + image + seed x image  (crossed random effects: Searle, Casella & McCulloch,
Variance Components, 1992). All runs share the images. What the seeds of a group differ by holds no image noise, but it holds
seed x image; the jackknife over images (Efron & Stein, Annals of Statistics 9, 1981) of the difference of the group means
holds image noise and seed x image. The latter is taken out once, so that it does not count twice.

The interval adds the limits of both sources in squares, (t_s se_s)^2 + (t_i se_i)^2 (Zou & Donner, Statistics in Medicine 27,
2008; Graybill & Wang, JASA 75, 1980), each t with its own degrees of freedom: one t with Satterthwaite's degrees for the sum
rejects up to 8 % at a nominal 5 % when two seeds meet many images (docs/compare.md has the simulation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seglab.stats.scores import Scores

TINY = 1e-12  # scores that differ by less differ by rounding
PLANNED = 100  # more runs a side are not counted


@dataclass(frozen=True)
class Difference:
    """The difference of two groups' scores (of one group: its score), mIoU first, then each class; arrays are (Q,).

    single: variance of one run's score over seeds, (G, Q); zeros where no group has two runs (`seeds_judged` is False).
    images: variance of the difference over test images, besides what the seeds' holds; NaN where it cannot be known.
    """

    value: np.ndarray
    runs: tuple[int, ...]
    known: tuple[int, ...]  # the degrees of freedom of `single`
    single: np.ndarray
    images: np.ndarray
    image_df: np.ndarray

    @classmethod
    def of(cls, a: Scores, b: Scores | None = None) -> Difference:
        """The difference a - b of two groups on the same images; without b, the score of a."""
        groups = (a,) if b is None else (a, b)
        if b is not None and a.left.shape[1:] != b.left.shape[1:]:
            raise ValueError(f"groups are scored on {a.left.shape[1]} and {b.left.shape[1]} clusters; the same are needed.")
        runs = tuple(len(g.points) for g in groups)
        value, left, clusters = a.mean, a.left.mean(0), a.clusters
        if b is not None:
            value, left, clusters = value - b.mean, left - b.left.mean(0), np.minimum(clusters, b.clusters)
        single, crossed = (np.stack(part) for part in zip(*(_over_seeds(g) for g in groups), strict=True))
        known = runs
        if max(runs) > 1 > min(runs) - 1:  # one side has a single run: the other's spread stands for both
            more = int(np.argmax(runs))
            single, crossed, known = single[[more, more]], crossed[[more, more]], (runs[more], runs[more])
        whole = _jackknife(left)
        images = np.maximum(0.0, whole - (crossed / np.array(runs)[:, None]).sum(0))
        value = np.where(np.abs(value) < TINY, 0.0, value)
        unknown = (clusters < 2) | ~np.isfinite(whole) | ((whole + single.sum(0) < TINY**2) & (value != 0))
        images = np.where(unknown, np.nan, images)
        return cls(value, runs, tuple(n - 1 for n in known), single, images, np.maximum(clusters - 1, 1))

    @property
    def seeds_judged(self) -> bool:
        """Whether some group has two runs, so that the noise of training is known."""
        return max(self.known) > 0

    @property
    def borrowed(self) -> bool:
        """Whether one side has a single run, and the other's spread over seeds stands for both."""
        return self.seeds_judged and min(self.runs) == 1 < len(self.runs)

    def half(self, alpha: float | np.ndarray = 0.05, power: float | None = None, runs: np.ndarray | None = None) -> np.ndarray:
        """Half the width of the interval at level 1 - alpha; with `power`, the difference shown with that probability.

        runs: as if each group had so many, (Q,).
        """
        seeds, df = self._seeds(runs)
        seed, image = quantile(1 - np.asarray(alpha) / 2, df), quantile(1 - np.asarray(alpha) / 2, self.image_df)
        if power is not None:
            seed, image = seed + quantile(power, df), image + quantile(power, self.image_df)
        return np.sqrt(np.where(seeds > 0, seed**2 * seeds, 0.0) + image**2 * self.images)

    def p(self) -> np.ndarray:
        """Two-sided p: the alpha at which the interval ends at 0, (Q,), not below 1e-9; NaN where it cannot be known."""
        low, high = np.full(self.value.shape, np.log(1e-9)), np.zeros(self.value.shape)
        for _ in range(30):
            middle = (low + high) / 2
            wide = self.half(np.exp(middle)) > np.abs(self.value)
            low, high = np.where(wide, middle, low), np.where(wide, high, middle)
        return np.where(np.isnan(self.images) | np.isnan(self.value), np.nan, np.where(self.value == 0, 1.0, np.exp(high)))

    def seeds_needed(self, alpha: float | np.ndarray, power: float) -> np.ndarray:
        """Runs a side after which a difference as large as this one would be shown with the given power.

        inf: however many there are, for the test set is too small. More than `PLANNED` are not counted: PLANNED + 1.
        """
        image = quantile(1 - np.asarray(alpha) / 2, self.image_df) + quantile(power, self.image_df)
        needed = np.where(image * np.sqrt(self.images) < np.abs(self.value), PLANNED + 1.0, np.inf)
        low, high = np.full(needed.shape, 1), np.full(needed.shape, PLANNED + 1)
        while (high - low > 1).any():  # more runs never widen it
            middle = (low + high) // 2
            enough = self.half(alpha, power, middle) <= np.abs(self.value)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(np.isfinite(needed), high, needed)

    def _seeds(self, runs: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Variance of the difference over seeds, and its degrees of freedom (Welch, Biometrika 34, 1947, the form with +2).

        That form is less biased for few runs than Satterthwaite's; it is kept within what is possible.
        """
        groups, scores = self.single.shape
        counts = np.repeat(np.array(self.runs)[:, None], scores, 1) if runs is None else np.repeat(runs[None], groups, 0)
        known = np.repeat(np.array(self.known)[:, None], scores, 1) if runs is None else counts - 1
        parts = self.single / counts
        total, least, most = parts.sum(0), np.maximum(1, known.min(0)), np.maximum(1, known.sum(0))
        if self.borrowed and runs is None:
            return total, least.astype(float)
        squares = (parts**2 / (known + 2)).sum(0)
        df = np.where(squares > 0, total**2 / np.where(squares > 0, squares, 1.0) - 2, most)
        return total, df.clip(least, most)


def quantile(level: float | np.ndarray, df: np.ndarray) -> np.ndarray:
    """Quantile of Student's t."""
    from scipy.special import stdtrit  # a tenth of a second to import

    return np.asarray(stdtrit(df, level))


def _over_seeds(group: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Variance over seeds of a run's score, and the part of it that is seed x image, each (Q,)."""
    runs = len(group.points)
    if runs < 2:
        return np.zeros(group.points.shape[1]), np.zeros(group.points.shape[1])
    single = group.points.var(0, ddof=1)
    single, centred = np.where(single < TINY**2, 0.0, single), group.left - group.left.mean(1, keepdims=True)
    clusters = centred.shape[1]
    return np.nan_to_num(single), np.nan_to_num((clusters - 1) / clusters * centred.var(0, ddof=1).sum(0))


def _jackknife(left: np.ndarray) -> np.ndarray:
    """Variance of a score by its values (C, Q) without each of C clusters, (Q,)."""
    clusters = len(left)
    variance = (clusters - 1) / clusters * ((left - left.mean(0)) ** 2).sum(0)
    return np.where(variance < TINY**2, 0.0, variance)
