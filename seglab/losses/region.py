"""Losses on the overlap of whole regions: dice, jaccard and tversky are one index with different weights."""

from __future__ import annotations

from torch import Tensor

from seglab.losses.base import Loss
from seglab.types import Spec


class RegionLoss(Loss):
    """1 - (TP + s) / (TP + alpha FP + beta FN + s) per class with soft counts over the whole batch, then the mean.

    Classes absent from the target: left out of the mean in multiclass mode (a wholly wrong prediction costs 1 however
    few classes a batch holds); in binary and multilabel mode, where nothing else would push false positives down,
    their term is the mean predicted probability over the valid pixels. s > 0 lowers the cost of small regions.
    """

    def __init__(self, spec: Spec, alpha: float, beta: float, smooth: float) -> None:
        super().__init__(spec)
        self.alpha = self.number("alpha", alpha, 0.0, above=True)
        self.beta = self.number("beta", beta, 0.0, above=True)
        self.smooth = self.number("smooth", smooth, 0.0)

    def compute(self, logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        """Scalar; see Loss.compute."""
        prob, target = self.probabilities(logits), self.positives(mask)
        pixels = (0, 2, 3)
        hit = (prob * target).sum(pixels)
        predicted = (prob * valid).sum(pixels)
        true = target.sum(pixels).to(prob.dtype)
        # TP + alpha (predicted - TP) + beta (true - TP); 0 only where a class is absent.
        union = (1 - self.alpha - self.beta) * hit + self.alpha * predicted + self.beta * true
        cost = 1 - (hit + self.smooth) / (union + self.smooth).clamp(min=1e-7)
        counted = true > 0
        if self.spec.mode != "multiclass":
            seen = valid.sum(pixels)
            cost = cost.where(counted, predicted / seen.clamp(min=1))
            counted = seen > 0
        return (cost * counted).sum() / counted.sum().clamp(min=1)


class Dice(RegionLoss):
    """Soft Dice loss 1 - (2 TP + smooth) / (2 TP + FP + FN + smooth) (Milletari et al. 2016, arXiv:1606.04797).

    Mean over the classes present in the batch; for absent ones see RegionLoss. `smooth` is in pixels.
    """

    name = "dice"

    def __init__(self, spec: Spec, smooth: float = 0.0) -> None:
        super().__init__(spec, 0.5, 0.5, smooth)
        self.smooth /= 2  # the index above is Dice's with numerator and denominator halved


class Jaccard(RegionLoss):
    """Soft Jaccard (IoU) loss 1 - (TP + smooth) / (TP + FP + FN + smooth) (Rahman and Wang 2016, ISVC).

    Mean over the classes present in the batch; for absent ones see RegionLoss. `smooth` is in pixels.
    """

    name = "jaccard"

    def __init__(self, spec: Spec, smooth: float = 0.0) -> None:
        super().__init__(spec, 1.0, 1.0, smooth)


class Tversky(RegionLoss):
    """Tversky loss: Dice with a price of its own for false positives and false negatives (arXiv:1706.05721).

    `alpha` weighs false positives and `beta` false negatives, both above 0; 0.5 and 0.5 is dice, 1 and 1 jaccard.
    Mean over the classes present in the batch; for absent ones see RegionLoss. `smooth` is in pixels.
    """

    name = "tversky"

    def __init__(self, spec: Spec, alpha: float = 0.3, beta: float = 0.7, smooth: float = 0.0) -> None:
        super().__init__(spec, alpha, beta, smooth)
