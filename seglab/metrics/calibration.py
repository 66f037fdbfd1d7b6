"""How sure a network is and how often it is right: pixels counted by probability, from which ECE and PR curves follow.

ECE       = sum over 15 bins of confidence of |pixels decoded right - sum of their confidence| / all valid pixels
            (Guo et al. 2017, arXiv:1706.04599). Confidence is the probability of the decoded class; in multilabel data
            each label of a pixel counts as one decision.
pixel_ap  = area under a class's precision-recall curve over all pixels, by steps: sum of (R_i - R_i-1) P_i over the 150
            thresholds i/150, from the highest down. NaN for a class that is not in the truth.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from seglab.metrics.confusion import histogram
from seglab.types import Spec

BINS = 150  # of probability; ECE joins them by tens
ECE_BINS = 15
UNIT = 2**20  # confidence is summed in whole units, so that the sum does not depend on the order of batches


class Calibration(Metric):
    """Counts of pixels by probability, of the decoded class and of each class; nothing waits for the device.

    It costs a pass over the pixels for each class, so it is kept for the test. Every update counts in full.
    """

    names = ("ece",)
    needs = "probabilities"
    phases = ("test",)
    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    counts: Tensor
    sure: Tensor

    def __init__(self, spec: Spec, per_image: bool = False, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.spec = spec
        # The last bin takes ignored pixels. Rows: the decoded class, then each class (binary: the foreground alone).
        groups = 1 + (1 if spec.mode == "binary" else spec.num_classes)
        self.add_state("counts", torch.zeros((groups, BINS + 1, 2), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sure", torch.zeros(BINS + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, pred: Tensor, target: Tensor, index: Tensor | None = None, probabilities: Tensor | None = None) -> None:
        """Count a batch. pred, target: as Confusion takes them; probabilities: B K H W (binary: B 1 H W), of each class."""
        if probabilities is None:
            raise ValueError("Calibration needs the probabilities of the classes.")
        probabilities = probabilities.float()
        if multilabel := self.spec.mode == "multilabel":
            decoded = torch.where(pred.bool(), probabilities, 1 - probabilities)
        elif self.spec.mode == "binary":
            decoded = torch.where(pred.bool(), probabilities[:, 0], 1 - probabilities[:, 0])
        else:
            decoded = probabilities.gather(1, pred.long()[:, None])[:, 0]
        rows = [self._row(decoded, pred == target, target == self.spec.ignore_index)]
        bins = self._bins(decoded, target == self.spec.ignore_index)
        sure = torch.zeros(BINS + 1, dtype=torch.int64, device=bins.device)
        sure.scatter_add_(0, bins.flatten(), (decoded.flatten().double() * UNIT).round().long())
        for k in range(probabilities.shape[1]):
            true = target[:, k] if multilabel else target
            is_k = true == (1 if multilabel or self.spec.mode == "binary" else k)
            rows.append(self._row(probabilities[:, k], is_k, true == self.spec.ignore_index))
        self.counts = self.counts + torch.stack(rows)
        self.sure = self.sure + sure

    @staticmethod
    def _bins(probability: Tensor, ignored: Tensor) -> Tensor:
        bins = (probability * BINS).long().clamp_(0, BINS - 1)  # NaN becomes some bin; the metrics of ids tell of it
        return bins.masked_fill_(ignored, BINS)

    def _row(self, probability: Tensor, right: Tensor, ignored: Tensor) -> Tensor:
        code = self._bins(probability, ignored).mul_(2).add_(right)
        return histogram(code.flatten(), 2 * (BINS + 1)).view(BINS + 1, 2)

    def compute(self) -> dict[str, Tensor]:
        """{"ece"}, 0-d float64 on the CPU; NaN where no pixel is valid."""
        self._counts = self.counts[:, :BINS].cpu().numpy()
        sure = self.sure[:BINS].cpu().numpy().reshape(ECE_BINS, -1).sum(1) / UNIT
        right = self._counts[0, :, 1].reshape(ECE_BINS, -1).sum(1)
        pixels = self._counts[0].sum()
        ece = np.abs(right - sure).sum() / pixels if pixels else float("nan")
        return {"ece": torch.tensor(ece, dtype=torch.float64)}

    def per_class(self) -> dict[str, dict[str, float]]:
        """pixel_ap by class name (binary: of the foreground). Calls `compute` where that is due, as Confusion's does."""
        self.compute()
        return {name: {"pixel_ap": average_precision(row)} for name, row in self._by_class().items()}

    def table(self) -> list[tuple[str, int, int, int]]:
        """(class or "(decoded)", bin, pixels, of these truly of the class), without empty bins."""
        self.compute()
        rows = [("(decoded)", self._counts[0]), *self._by_class().items()]
        return [(name, int(b), int(row[b].sum()), int(row[b, 1])) for name, row in rows for b in np.flatnonzero(row.sum(1))]

    def _by_class(self) -> dict[str, np.ndarray]:
        names = self.spec.classes[1:] if self.spec.mode == "binary" else self.spec.classes
        return dict(zip(names, self._counts[1:], strict=True))


def average_precision(counts: np.ndarray) -> float:
    """Area under the precision-recall curve of counts (bins, 2): pixels of other classes and of the class, by probability."""
    false, true = counts[::-1].cumsum(0).T
    if not true[-1]:
        return float("nan")
    steps = np.diff(true, prepend=0) / true[-1]
    return float((steps * true / np.maximum(true + false, 1)).sum())
