"""The confusion engine: one integer count per batch, from which every score follows (see definitions.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from seglab.errors import DataError
from seglab.metrics.definitions import NAMES, class_scores, headline, tally
from seglab.metrics.passport import passport
from seglab.types import Spec

# Up to this many cells (64 classes, 16 KB an image) an image's whole matrix is kept; above, only its tp, fp, fn.
WHOLE_MATRIX_CELLS = 64 * 64
HEAD = 3  # columns before the counts of an image: index, mask pixels lost, predicted pixels lost; then those on ignored pixels


class Confusion(Metric):
    """Dataset-level IoU, Dice, accuracy, precision and recall, per class and as headline, from one count per batch.

    With `per_image` the counts of each image are kept too, and an image that occurs twice (the padding of a
    DistributedSampler) counts once, on one process as over many; without it every update counts in full.
    """

    names = NAMES
    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    matrix: Tensor
    lost: Tensor
    images: list[Tensor]

    def __init__(self, spec: Spec, per_image: bool = False, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.spec, self.per_image, self.multilabel = spec, per_image, spec.mode == "multilabel"
        # A multilabel answer is K yes/no questions, so K planes with two ids each; otherwise one plane with K ids.
        self.planes, self.ids = (spec.num_classes, 2) if self.multilabel else (1, spec.num_classes)
        cells = self.planes * self.ids**2
        self.whole = self.multilabel or cells <= WHOLE_MATRIX_CELLS
        self.head = HEAD + self.planes * self.ids
        self.width = self.head + (cells if self.whole else 3 * self.ids)
        self.add_state("matrix", torch.zeros((self.planes, self.ids, self.ids), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("lost", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", [], dist_reduce_fx="cat")

    def update(self, pred: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        """Count a batch. pred, target: B H W ids (multilabel: B K H W of 0 and 1; target may hold ignore_index).

        index: B, each image's position in its split; needed with `per_image`. Nothing here waits for the device, so
        ids outside the classes are counted now and reported by `compute`. Raises ValueError for wrong shapes.
        """
        self._check(pred, target, index)
        flat = (len(target) * self.planes, -1)
        counts, lost, ignored = count_pairs(pred.reshape(flat), target.reshape(flat), self.ids, self.spec.ignore_index)
        counts = counts.view(-1, self.planes, self.ids, self.ids)
        lost, ignored = lost.view(-1, self.planes, 2).sum(1), ignored.view(-1, self.planes, self.ids)
        # Not in place: a state that was reset under inference_mode could not be changed outside of it.
        self.matrix = self.matrix + counts.sum(0)
        self.lost = self.lost + lost.sum(0)
        if self.per_image and index is not None:
            kept = counts if self.whole else torch.stack(self._tally(counts), 1)
            row = torch.cat([index.to(lost.device)[:, None], lost, ignored.flatten(1), kept.flatten(1)], 1)
            self.images.append(row.int())  # an image's counts fit 32 bits; half the memory

    def compute(self) -> dict[str, Tensor]:
        """The headline numbers by name, 0-d float64 on the CPU. Over several processes: of all their images.

        Raises DataError where masks held an id that is neither a class nor ignore_index.
        """
        # The totals are kept for per_class, rows and confusion: outside compute the states are one process's own.
        self._rows = self._unique_rows()
        lost, sums = self._rows[:, 1:HEAD].sum(0), self._rows[:, self.head :].sum(0)
        self._refuse_lost(*(lost if self.per_image else self.lost).tolist())
        exact = self.per_image and self.whole
        self._matrix = sums.reshape(self.matrix.shape) if exact else self.matrix.cpu().numpy()
        if self.per_image and not self.whole:
            self._counts = tuple(sums.reshape(3, -1))
            correct, valid = self._counts[0].sum(), (self._counts[0] + self._counts[2]).sum()
        else:
            self._counts = self._tally(self._matrix)
            correct, valid = self._matrix.diagonal(0, -2, -1).sum(), self._matrix.sum()
        numbers = headline(class_scores(*self._counts), self.spec.scored, int(correct), int(valid))
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """iou, dice, precision, recall, support (pixels) by class name; NaN for a class without data.

        Like `rows` and `confusion` it calls `compute` where that is due, which every process then has to join.
        """
        self.compute()
        tp, fp, fn = self._counts
        table = {**class_scores(tp, fp, fn), "support": tp + fn}
        return {name: {key: column[k].item() for key, column in table.items()} for k, name in enumerate(self.spec.classes)}

    def rows(self) -> np.ndarray:
        """int64 (N, 1 + 3K), sorted by and unique in the first column: index, then tp, fp, fn of each class in turn."""
        if not self.per_image:
            raise ValueError("Confusion keeps counts of each image only with per_image=True.")
        self.compute()
        return np.concatenate([self._rows[:, :1], self._image_counts().reshape(-1, 3 * self.spec.num_classes)], 1)

    def _image_counts(self) -> np.ndarray:
        """tp, fp, fn of each image and class, int64 (N, K, 3), of what `compute` gathered last."""
        kept = self._rows[:, self.head :]
        if self.whole:
            kept = np.stack(self._tally(kept.reshape(-1, *self.matrix.shape)), 1)
        return kept.reshape(-1, 3, self.spec.num_classes).swapaxes(1, 2)

    def confusion(self) -> np.ndarray:
        """int64 pixels (K, K), rows = truth, columns = prediction (multilabel: (K, 2, 2)).

        Above 64 classes this matrix alone still counts a repeated image twice; the scores and `rows` do not.
        """
        self.compute()
        return self._matrix if self.multilabel else self._matrix[0]

    def passport(self) -> dict[str, Any]:
        """The definition behind the headline iou, and what other conventions would have given; needs `per_image`."""
        value = float(self.compute()["iou"])
        return passport(self._image_counts(), self.predicted_on_ignored(), self.spec.scored, value)

    def predicted_on_ignored(self) -> np.ndarray:
        """int64 pixels (N, K) of each image that were predicted as each class where the truth is ignored."""
        self.compute()
        found = self._rows[:, HEAD : self.head].reshape(-1, self.planes, self.ids)
        return found[..., 1] if self.multilabel else found[:, 0]

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes (torchmetrics), also where this one saw no image."""
        # torchmetrics would send a float32 placeholder of another rank, which the other processes read as counts.
        if self.per_image and isinstance(self.images, list) and not self.images:
            self.images = [torch.zeros((0, self.width), dtype=torch.int32, device=self.matrix.device)]
        super().sync(*args, **kwargs)

    def _tally(self, counts: Any) -> tuple[Any, Any, Any]:
        """(tp, fp, fn), each (..., K), of counts (..., planes, ids, ids)."""
        return tally(counts if self.multilabel else counts[..., 0, :, :], self.multilabel)

    def _unique_rows(self) -> np.ndarray:
        """int64 (N, width): the first row of each image, sorted by index."""
        rows = torch.cat(self.images) if isinstance(self.images, list) and self.images else self.images
        array = rows.cpu().numpy() if isinstance(rows, Tensor) else np.zeros((0, self.width))
        _, first = np.unique(array[:, 0], return_index=True)
        return array[first].astype(np.int64)

    def _refuse_lost(self, masks: int, predictions: int) -> None:
        if masks:
            found = np.flatnonzero(self._rows[:, 1])
            where = f" (the first in image {self._rows[found[0], 0]} of the split)" if len(found) else ""
            raise DataError(
                f"{masks} mask pixels{where} hold an id that is neither one of 0..{self.ids - 1} nor "
                f"ignore_index {self.spec.ignore_index}; correct the masks, or set data.ignore_index or the classes."
            )
        if predictions:
            raise ValueError(
                f"{predictions} predicted pixels hold an id outside 0..{self.ids - 1}; pass decoded ids, not logits."
            )

    def _check(self, pred: Tensor, target: Tensor, index: Tensor | None) -> None:
        if pred.is_floating_point() or target.is_floating_point():
            raise ValueError(f"Confusion counts integer ids, not {pred.dtype} and {target.dtype}; decode the logits first.")
        if pred.shape != target.shape or (self.multilabel and target.shape[1] != self.planes):
            shape = f"B {self.planes} H W" if self.multilabel else "B H W"
            raise ValueError(f"pred {tuple(pred.shape)} and target {tuple(target.shape)} must both be {shape}.")
        if self.per_image and (index is None or index.shape != target.shape[:1]):
            raise ValueError("Confusion(per_image=True) needs index: one position in the split for each image of the batch.")


def count_pairs(pred: Tensor, target: Tensor, ids: int, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count (target, pred) pairs of P rows of pixels (P, N): int64 (P, ids, ids), rows = target, without ignored pixels.

    Also lost pixels, int64 (P, 2): targets that are neither an id nor ignore_index, and predictions that are no id; and
    (P, ids): predictions where the target is no id.
    """
    # Ids are clamped to one bin below and one above the legal ones, so that each pixel has a bin of its own pair and
    # what falls outside can be told from it afterwards: one count, no mask, no look at the values on the host.
    side, rows, device = ids + 2, len(target), target.device
    # On a CPU 32 bits halve the traffic; scatter_add_ insists on 64. (Adding mixed widths in place costs more than a cast.)
    wide = torch.int32 if device.type == "cpu" else torch.int64
    start = torch.arange(rows, device=device, dtype=wide)[:, None] * side**2 + (side + 1)
    code = _clamped(target, ids).to(wide).mul_(side).add_(_clamped(pred, ids).to(wide)).add_(start)
    cells, code = rows * side**2, code.flatten()
    bins = histogram(code, cells).view(rows, side, side)
    outside = bins[:, 0].sum(-1) + bins[:, -1].sum(-1) - (target == ignore_index).sum(-1)
    valid = bins[:, 1:-1]
    lost = torch.stack([outside, valid[..., 0].sum(-1) + valid[..., -1].sum(-1)], -1)
    return valid[..., 1:-1], lost, bins[:, 0, 1:-1] + bins[:, -1, 1:-1]


def _clamped(values: Tensor, ids: int) -> Tensor:
    """A copy of the values, clamped to -1..ids within what their integer type can hold."""
    values = values.byte() if values.dtype == torch.bool else values
    limits = torch.iinfo(values.dtype)
    return values.clamp(max(-1, limits.min), min(ids, limits.max))


def histogram(code: Tensor, bins: int) -> Tensor:
    """How often each of 0..bins-1 occurs in integers (N,), int64 (bins,); nothing is read back to the host."""
    # On a GPU torch.bincount reads the maximum back and so stalls the stream.
    return torch.bincount(code, minlength=bins) if code.device.type == "cpu" else _scattered(code, bins)


def _scattered(code: Tensor, bins: int) -> Tensor:
    count = torch.zeros(bins, dtype=torch.int64, device=code.device)
    return count.scatter_add_(0, code, torch.ones((), dtype=torch.int64, device=code.device).expand_as(code))
