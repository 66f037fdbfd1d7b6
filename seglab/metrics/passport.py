"""The passport of a mIoU: its definition, and what other conventions would have made of the same predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seglab.metrics.definitions import class_scores

MULTICLASS = (
    "pixels are counted over all images of the split, IoU = tp / (tp + fp + fn) for each class, then the plain mean over the "
    "classes that occur in truth or prediction; ignored pixels count nowhere"
)
BINARY = (
    "IoU = tp / (tp + fp + fn) of the foreground, counted over all images of the split; the background is not in it; ignored "
    "pixels count nowhere"
)
# Names and definitions, in the order of `values`.
OTHERS = {
    "mean over images": "the mIoU of each image, then the mean over images; a class absent from an image is left out of it",
    "mean over images, absent = 0": "the same, but a class in neither truth nor prediction of an image counts as 0",
    "mean over images, absent = 1": "the same, but a class in neither truth nor prediction of an image counts as 1",
    "absent = 0": "a class that occurs nowhere in the split counts as 0 in the mean over classes",
    "absent = 1": "a class that occurs nowhere in the split counts as 1 in the mean over classes",
    "micro": "the counts are summed over the classes before they are divided",
    "by frequency": "the mean over classes weighted by their pixels in the truth",
    "ignored counted": "predictions on ignored pixels are false positives",
    "background counted": "the mean of the foreground's and the background's IoU",
}


def passport(counts: np.ndarray, ignored: np.ndarray, scored: Sequence[int], value: float) -> dict[str, Any]:
    """{value, definition, others: [{name, value, definition}]} of a mIoU `value` and of its rivals.

    counts: int (N, K, 3), tp, fp, fn of each image; ignored: int (N, K), pixels that were predicted where the truth is
    ignored; scored: the classes that the mean goes over. A rival without data is None.
    """
    binary = len(scored) < counts.shape[1]
    others = [
        {"name": name, "value": None if np.isnan(other) else float(other), "definition": OTHERS[name]}
        for name, other in _values(counts, ignored, list(scored), binary).items()
    ]
    kept = None if np.isnan(value) else float(value)
    return {"value": kept, "definition": BINARY if binary else MULTICLASS, "others": others}


def _values(counts: np.ndarray, ignored: np.ndarray, scored: list[int], binary: bool) -> dict[str, float]:
    every, valid = _iou(counts.sum(0)), counts.any((1, 2))  # of an image that is ignored as a whole nothing is known
    images, total, all_classes = _iou(counts[valid])[:, scored], counts.sum(0), every[scored]
    void = total.copy()
    void[:, 1] += ignored.sum(0)
    found = {
        "mean over images": _mean(_row_means(images)),
        "mean over images, absent = 0": _mean(np.nan_to_num(images, nan=0.0).mean(1)),
        "mean over images, absent = 1": _mean(np.nan_to_num(images, nan=1.0).mean(1)),
    }
    if not binary:  # one class that is in no image has no score at all
        support = total[scored, 0] + total[scored, 2]
        found["absent = 0"] = _mean(np.nan_to_num(all_classes, nan=0.0))
        found["absent = 1"] = _mean(np.nan_to_num(all_classes, nan=1.0))
        found["micro"] = float(_iou(total[scored].sum(0)))
        found["by frequency"] = float(np.nansum(all_classes * support) / support.sum()) if support.sum() else float("nan")
    found["ignored counted"] = _mean(_iou(void)[scored])
    if binary:
        found["background counted"] = _mean(every)
    return found


def _iou(counts: np.ndarray) -> np.ndarray:
    return class_scores(counts[..., 0], counts[..., 1], counts[..., 2])["iou"]


def _row_means(values: np.ndarray) -> np.ndarray:
    """The mean of each row without its NaN; NaN for a row of nothing else."""
    there = np.isfinite(values)
    return np.where(there.any(1), np.where(there, values, 0).sum(1) / np.maximum(there.sum(1), 1), np.nan)


def _mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else float("nan")
