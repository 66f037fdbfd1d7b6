"""Scores of runs from their counts, and the same with each cluster of images left out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def iou(totals: np.ndarray) -> np.ndarray:
    """IoU of each class, float64 (..., K), of tp, fp, fn summed over images (..., K, 3); NaN for a class without pixels."""
    union = totals.sum(-1)
    return np.where(union > 0, totals[..., 0] / np.maximum(union, 1), np.nan)


def headline(totals: np.ndarray, scored: Sequence[int]) -> np.ndarray:
    """mIoU (...) of counts summed over images (..., K, 3): the mean over scored classes that occur, as in seglab.metrics."""
    return _mean(iou(totals), scored)


def _mean(values: np.ndarray, scored: Sequence[int]) -> np.ndarray:
    values = values[..., list(scored)]
    there = np.isfinite(values)
    count = there.sum(-1)
    return np.where(count > 0, np.where(there, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Scores:
    """Scores of the S runs of one configuration on one test set: mIoU first, then the IoU of each class (Q = 1 + K).

    points: (S, Q). left: (S, C, Q), the scores without the images of one of C clusters. clusters: (Q,), how many clusters
    show the truth of what is scored.
    """

    points: np.ndarray
    left: np.ndarray
    clusters: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, scored: Sequence[int], cluster: np.ndarray | None = None) -> Scores:
        """counts: int (S, N, K, 3), tp, fp, fn. cluster: (N,), a label for each image; None = each is its own."""
        counts = np.asarray(counts)
        if counts.ndim != 4 or counts.shape[-1] != 3:
            raise ValueError(f"counts are {counts.shape}; S N K 3 is needed.")
        if cluster is not None:
            labels = np.unique(np.asarray(cluster), return_inverse=True)[1].reshape(-1)
            if len(labels) != counts.shape[1]:
                raise ValueError(f"{len(labels)} labels of clusters for {counts.shape[1]} images.")
            order = np.argsort(labels, kind="stable")
            starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
            counts = np.add.reduceat(counts[:, order], starts, axis=1, dtype=np.int64)
        totals = counts.sum(1, dtype=np.int64)
        left = totals[:, None] - counts
        shown = (counts[..., 0] + counts[..., 2] > 0).all(0).sum(0)
        return cls(_scores(totals, scored), _scores(left, scored), np.concatenate([[counts.shape[1]], shown]))

    @property
    def mean(self) -> np.ndarray:
        """The mean over the runs that have the score, (Q,)."""
        return _mean(self.points.T, range(len(self.points)))


def _scores(totals: np.ndarray, scored: Sequence[int]) -> np.ndarray:
    classes = iou(totals)
    return np.concatenate([_mean(classes, scored)[..., None], classes], -1)
