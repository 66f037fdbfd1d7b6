"""Verdicts: better, worse, no difference that matters, or cannot tell; and what it would take to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seglab.stats.difference import Difference

Word = Literal["better", "worse", "equivalent", "unclear"]
POWER = 0.8


@dataclass(frozen=True)
class Verdict:
    """What can be said of one score of A against B. low, high: the interval at the level that Holm's step asks for.

    detectable: the smallest difference that would be shown with 80 % probability. seeds: runs a side after which one as large
    as that found would be (inf: never, the test set is too small; None: not to be asked). Unknown numbers are NaN.
    """

    word: Word
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    detectable: float
    seeds: float | None
    seeds_judged: bool  # False: one run a side, so that only the noise of the test images is judged


def holm(p: np.ndarray, alpha: float = 0.05, more: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Holm's step-down (Scandinavian Journal of Statistics 6, 1979): adjusted p, and the level each was tested at.

    p: any shape; NaN takes no part. more: comparisons that are not among them, but might have been made instead. Where the
    rejections end, the rest share the level of the first that was kept.
    """
    flat = np.asarray(p, float).reshape(-1)
    adjusted, levels = np.full(flat.shape, np.nan), np.full(flat.shape, alpha)
    tested = np.flatnonzero(np.isfinite(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    steps = more + len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(flat[order] * steps))
    kept = int((adjusted[order] <= alpha).sum())
    levels[order] = alpha / np.concatenate([steps[:kept], np.full(len(order) - kept, steps[kept] if kept < len(order) else 1)])
    levels[~np.isfinite(flat)] = alpha / max(1, more + len(order))
    return adjusted.reshape(np.shape(p)), levels.reshape(np.shape(p))


def judge(
    differences: Sequence[Difference], margin: float, alpha: float = 0.05, pairs: int | None = None
) -> list[list[Verdict]]:
    """The verdicts of each pair, mIoU first, then each class.

    Holm's correction goes over the pairs for mIoU, and over pairs x classes for the classes. pairs: how many might have been
    looked at, where the scores chose which are: a baseline that was the best of G groups may make any of G (G - 1) / 2.
    """
    more = (pairs or len(differences)) - len(differences)
    p = np.stack([d.p() for d in differences])
    parts = [holm(p[:, :1], alpha, more), holm(p[:, 1:], alpha, more * (p.shape[1] - 1))]
    adjusted, levels = (np.concatenate(columns, 1) for columns in zip(*parts, strict=True))
    return [_pair(d, margin, alpha, *row) for d, *row in zip(differences, p, adjusted, levels, strict=True)]


def _pair(d: Difference, margin: float, alpha: float, p: np.ndarray, adjusted: np.ndarray, level: np.ndarray) -> list[Verdict]:
    half, detectable, needed = d.half(level), d.half(level, POWER), d.seeds_needed(level, POWER)
    verdicts = []
    for q, value in enumerate(d.value.tolist()):
        low, high = value - half[q].item(), value + half[q].item()
        seeds: float | None = None
        if adjusted[q] <= alpha:
            word: Word = "better" if value > 0 else "worse"
        elif -margin <= low <= high <= margin:
            word = "equivalent"
        else:
            word = "unclear"
            seeds = needed[q].item() if d.seeds_judged and value and np.isfinite(half[q]) else None
        numbers = (value, low, high, p[q].item(), adjusted[q].item(), detectable[q].item())
        verdicts.append(Verdict(word, *numbers, seeds, d.seeds_judged))
    return verdicts
