"""What seglab's numbers mean: the one place where counts become scores. Works on numpy arrays; K classes.

For class k, over all images of the split together (counts are summed first, then divided):
    tp  pixels of k predicted as k        fp  pixels of others predicted as k        fn  pixels of k predicted as others
    iou       = tp / (tp + fp + fn)           Jaccard index
    dice      = 2 tp / (2 tp + fp + fn)       F1; equals 2 iou / (1 + iou)
    precision = tp / (tp + fp)
    recall    = tp / (tp + fn)
    support   = tp + fn                       pixels of k in the truth
    accuracy  = correct pixels / valid pixels (multilabel: correct answers / valid answers, over all pixels and labels)

- A pixel whose truth is ignore_index counts nowhere, whatever is predicted there.
- A class that is in neither truth nor prediction has no score (NaN) and is left out of every mean.
- A class that was never predicted but is in the truth has precision 0; one that is never in the truth but was
  predicted has recall 0. (Its other side exists, so it is a miss and not a class without data.)
- The headline iou, dice, precision, recall are the plain mean over the scored classes: all of them, or in binary
  mode the foreground alone. If none of them has a score the headline is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

NAMES = ("iou", "dice", "accuracy", "precision", "recall")


def tally(matrix: Any, multilabel: bool) -> tuple[Any, Any, Any]:
    """(tp, fp, fn), each (..., K), of a confusion (..., K, K) with rows = truth, or (..., K, 2, 2) if multilabel.

    Takes a numpy array or a torch tensor: only methods that both have are used.
    """
    if multilabel:
        return matrix[..., 1, 1], matrix[..., 0, 1], matrix[..., 1, 0]
    tp = matrix.diagonal(0, -2, -1)
    return tp, matrix.sum(-2) - tp, matrix.sum(-1) - tp


def class_scores(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """iou, dice, precision, recall of each class, float64 (K,); NaN for a class in neither truth nor prediction."""
    present = tp + fp + fn > 0

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(present, part / np.maximum(whole, 1), np.nan)

    return {
        "iou": ratio(tp, tp + fp + fn),
        "dice": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
    }


def headline(scores: dict[str, np.ndarray], scored: Sequence[int], correct: int, valid: int) -> dict[str, float]:
    """The five numbers of `NAMES`: means of `class_scores` over the scored classes that have one, and accuracy."""
    means = {name: values[list(scored)] for name, values in scores.items()}
    numbers = {name: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for name, v in means.items()}
    numbers["accuracy"] = correct / valid if valid else float("nan")
    return {name: numbers[name] for name in NAMES}
