"""What scores of objects mean: F1, AJI and PQ, written down once. Works on run lengths, by numpy and scipy.

Each score is computed for one class at a time, from its true objects and its segments (the objects that were found) in
each image. A headline is the plain mean over the classes that have a score; a class has none (NaN) where it has neither
true objects nor segments. An object or a segment without pixels is none.

    void    pixels whose truth is ignore_index and that no true object covers. They leave a segment before it is compared,
            so IoU(segment, object) = shared pixels / (segment outside void + object - shared pixels), and areas likewise
    left out  a segment of whose pixels more than half lie in void or in a crowd of its class, wherever it is not matched:
            it is no error. Crowds themselves are neither found nor missed

F1 at IoU t (t = 0.5, 0.6, 0.7, 0.8, 0.9; as StarDist, doi 10.1007/978-3-030-00934-2_30, and Cellpose match objects)
    In each image as many pairs with IoU >= t as one-to-one matching allows. tp are pairs, fp the segments in none (but for
    those left out), fn the objects in none; each summed over the images. F1 = 2 tp / (2 tp + fp + fn).
AJI (Kumar et al. 2017, doi 10.1109/TMI.2017.2677499)
    In each image every object takes the segment of largest IoU (the first of equals; one segment may be taken twice), if
    any touches it. AJI = sum of intersections / (sum of unions, or the object's area where none touches it, + the areas of
    segments that none took, but for those left out). A class's AJI is the mean over the images where it has a value.
PQ (Kirillov et al. 2019, arXiv:1801.00868; void and crowds as in the reference code, panopticapi)
    A pair matches if IoU > 0.5; this is one to one where segments share no pixels, nor objects (where they do: the
    one-to-one pairs of the largest sum). tp, fp, fn as for F1. SQ = mean IoU of the pairs (0 without any),
    RQ = tp / (tp + fp/2 + fn/2), PQ = SQ RQ = sum of IoU / (tp + fp/2 + fn/2).
PQ of a map of classes (`stuff_pq`)
    All pixels of a class in an image are one segment, or one object: IoU = tp / (tp + fp + fn) of its pixels, where pixels
    of void count nowhere. It matches if IoU > 0.5; if not, it is a false positive where predicted, a miss where true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from seglab import rle
from seglab.types import Instances

IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
NAMES = (*(f"f1_{100 * t:.0f}" for t in IOUS), "aji", "pq", "sq", "rq")


class Scene(NamedTuple):
    """One image: the objects `found`, those of them that share no pixels, the true ones, and the run lengths of void."""

    found: Instances
    segments: Instances
    truth: Instances
    void: bytes | None


class Pairing(NamedTuple):
    """S segments and T true objects of one class in one image: `shared` pixels S T, areas S and T, `left_out` bool S."""

    shared: np.ndarray
    segments: np.ndarray
    objects: np.ndarray
    left_out: np.ndarray

    @property
    def unions(self) -> np.ndarray:
        """Pixels of each segment or each object, int64 S T."""
        return self.segments[:, None] + self.objects - self.shared


def scores(scenes: Iterable[Scene], classes: Sequence[int]) -> dict[str, np.ndarray]:
    """The scores of `NAMES` and `objects` (how many are true) for each of C classes, float64 (C,)."""
    f1 = np.zeros((len(classes), len(IOUS), 3))
    panoptic = np.zeros((len(classes), 4))
    shares: list[list[float]] = [[] for _ in classes]
    objects = np.zeros(len(classes))
    for scene in scenes:
        crowd = scene.truth.crowd
        present = {*scene.segments.labels.tolist(), *scene.truth.labels[~crowd].tolist()}
        for c, label in enumerate(classes):
            if label in present:
                pairing = pair(scene, label)
                f1[c] += f1_counts(pairing)
                panoptic[c] += pq_counts(pairing)
                shares[c].append(aji(pairing))
                objects[c] += np.count_nonzero(scene.truth.labels[~crowd] == label)
    tp, fp, fn = np.moveaxis(f1, -1, 0)
    numbers = dict(zip(NAMES, _ratio(2 * tp, 2 * tp + fp + fn).T, strict=False))
    numbers["aji"] = np.array([_mean(values) for values in shares])
    return numbers | pq_scores(panoptic) | {"objects": objects}


def pair(scene: Scene, label: int) -> Pairing:
    """The segments and true objects of class `label`, compared without decoding them."""
    size, truth = scene.truth.size, scene.truth
    segments = [one for one, k in zip(scene.segments.rles, scene.segments.labels, strict=True) if k == label]
    mine = [(one, many) for one, k, many in zip(truth.rles, truth.labels, truth.crowd, strict=True) if k == label]
    void = [scene.void] if scene.void else []
    forgiven = void + [one for one, many in mine if many]
    if len(forgiven) > 1:  # as one region, where a pixel in two of them counts once
        forgiven = [rle.encode(union(forgiven, size)[None])[0]]
    objects = [one for one, many in mine if not many]
    shared = rle.overlaps(segments, [*objects, *void, *forgiven], size)
    areas, count = rle.areas(segments, size), len(objects)
    outside = areas - shared[:, count : count + len(void)].sum(1)
    left_out = 2 * shared[:, count + len(void) :].sum(1) > areas
    true = rle.areas(objects, size)
    kept = areas > 0
    return Pairing(shared[kept, :count][:, true > 0], outside[kept], true[true > 0], left_out[kept])


def union(rles: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """The pixels that any of the masks covers, bool H W; one mask is decoded at a time."""
    covered = np.zeros(size, bool)
    for one in rles:
        covered |= rle.decode([one], size)[0]
    return covered


def f1_counts(pairing: Pairing) -> np.ndarray:
    """tp, fp, fn at each IoU of `IOUS`, (5, 3)."""
    iou = pairing.shared / np.maximum(pairing.unions, 1)
    # Among the largest matchings, one that spends its pairs on segments that would be errors, not on those left out.
    worth = 1 + 0.5 * ~pairing.left_out[:, None] / (len(iou) + 1)
    return np.array([_counts(pairing, *_match(iou >= t, np.broadcast_to(worth, iou.shape))) for t in IOUS])


def pq_counts(pairing: Pairing) -> np.ndarray:
    """Sum of the matches' IoU, then tp, fp, fn, (4,)."""
    iou = pairing.shared / np.maximum(pairing.unions, 1)
    rows, columns = _match(iou > 0.5, iou)
    return np.array([iou[rows, columns].sum(), *_counts(pairing, rows, columns)])


def aji(pairing: Pairing) -> float:
    """The aggregated Jaccard index of one class in one image; NaN with neither objects nor segments."""
    free = ~pairing.left_out
    intersection, whole = 0, int(pairing.objects.sum())
    if pairing.shared.size:
        unions = pairing.unions
        best = (pairing.shared / np.maximum(unions, 1)).argmax(0)
        at = (best, np.arange(len(best)))
        touched = pairing.shared[at] > 0
        intersection = int(pairing.shared[at].sum())
        whole = int(np.where(touched, unions[at], pairing.objects).sum())
        free[best[touched]] = False
    whole += int(pairing.segments[free].sum())
    return intersection / whole if whole else float("nan")


def pq_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """pq, sq, rq, each (C,), from sum of IoU, tp, fp, fn of each class (C, 4); NaN for a class without counts."""
    total, tp, fp, fn = counts.T
    size = tp + fp / 2 + fn / 2
    quality = np.where(size > 0, total / np.maximum(tp, 1), np.nan)
    return {"pq": _ratio(total, size), "sq": quality, "rq": _ratio(tp, size)}


def stuff_pq(rows: np.ndarray, scored: Sequence[int]) -> dict[str, np.ndarray]:
    """pq, sq, rq of each class, float64 (K,), from the pixel counts tp, fp, fn of N images (N, K, 3).

    NaN for a class that is not among `scored`, or that no image has or shows.
    """
    tp, fp, fn = np.moveaxis(rows, -1, 0)
    iou = _ratio(tp, tp + fp + fn)
    match = iou > 0.5
    counts = [np.where(match, iou, 0), match, ~match & (tp + fp > 0), ~match & (tp + fn > 0)]
    numbers = pq_scores(np.stack([c.sum(0) for c in counts], 1))
    asked = np.isin(np.arange(rows.shape[1]), scored)
    return {name: np.where(asked, values, np.nan) for name, values in numbers.items()}


def _match(allowed: np.ndarray, worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the allowed one-to-one pairs of largest total worth."""
    if allowed.sum(0).max(initial=0) > 1 or allowed.sum(1).max(initial=0) > 1:
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(np.where(allowed, worth, 0), maximize=True)
        kept = allowed[rows, columns]
        return rows[kept], columns[kept]
    rows, columns = np.nonzero(allowed)  # no choice
    return rows, columns


def _counts(pairing: Pairing, rows: np.ndarray, columns: np.ndarray) -> tuple[int, int, int]:
    """tp, fp, fn of a matching."""
    alone = ~pairing.left_out
    alone[rows] = False
    return len(rows), int(alone.sum()), len(pairing.objects) - len(columns)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if v == v]
    return float(np.mean(finite)) if finite else float("nan")
