"""Losses that are a mean over pixels of a cross entropy: ce and bce."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.errors import ConfigError
from seglab.losses.base import Loss
from seglab.types import Spec


class PixelLoss(Loss):
    """Base of the losses that average a cost per pixel over the valid pixels, weighted by class on request.

    `class_weights` are K numbers of at least 0 (binary: background, foreground). A pixel counts as often as its class's
    weight says (multilabel: a channel as its own), and the mean divides by the summed weights, as torch does.
    """

    def __init__(self, spec: Spec, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(spec)
        weights = None
        if class_weights is not None:
            numbers = self.numbers("class_weights", class_weights, spec.num_classes, low=0.0)
            if max(numbers) == 0:
                raise ConfigError(f"loss '{self.name}': class_weights are all 0; give at least one class a weight above 0.")
            # Only ratios matter in a weighted mean; the largest becomes 1 so that no sum overflows.
            weights = torch.tensor([n / max(numbers) for n in numbers])
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None

    def cross_entropy(self, logits: Tensor, mask: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross entropy per pixel, B 1 H W (multilabel: B K H W); at ignored pixels any finite value."""
        if self.spec.mode == "multiclass":
            return self.softmax_cross_entropy(logits, mask, smoothing, None)
        target = self.positives(mask).to(logits.dtype) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def softmax_cross_entropy(self, logits: Tensor, mask: Tensor, smoothing: float, weight: Tensor | None) -> Tensor:
        """torch's F.cross_entropy per pixel, B 1 H W; its own mean is NaN on no pixels and not deterministic on CUDA."""
        cost = F.cross_entropy(
            logits, mask[:, 0], weight, ignore_index=self.spec.ignore_index, reduction="none", label_smoothing=smoothing
        )
        return cost.unsqueeze(1)

    def pixel_weights(self, mask: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
        """What each pixel counts, shaped like the mask, 0 where ignored."""
        if self.class_weights is None:
            return valid.to(dtype)
        weights = self.class_weights.to(dtype)
        if self.spec.mode == "multilabel":
            return valid * weights.view(-1, 1, 1)
        return weights[mask.where(valid, 0)] * valid

    @staticmethod
    def ratio(cost: Tensor, weights: Tensor) -> Tensor:
        """sum(cost) / sum(weights), and 0 where nothing has a weight."""
        total = weights.sum()
        return cost.sum() / total.where(total > 0, 1)


class CrossEntropy(PixelLoss):
    """Cross entropy: over a softmax in multiclass mode, over sigmoids in binary and multilabel mode.

    Equals torch.nn.CrossEntropyLoss (BCEWithLogitsLoss), but is 0 instead of NaN where all pixels are ignored.
    `label_smoothing` in 0..1 mixes the target with the uniform one (Szegedy et al. 2016, arXiv:1512.00567).
    """

    name = "ce"

    def __init__(self, spec: Spec, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(spec, class_weights)
        self.label_smoothing = self.number("label_smoothing", label_smoothing, 0.0, 1.0)

    def compute(self, logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        """Scalar; see Loss.compute."""
        weights = self.pixel_weights(mask, valid, logits.dtype)
        if self.spec.mode == "multiclass":  # torch weights the smoothed part by class too, so it is left to torch
            per_class = None if self.class_weights is None else self.class_weights.to(logits.dtype)
            return self.ratio(self.softmax_cross_entropy(logits, mask, self.label_smoothing, per_class), weights)
        return self.ratio(self.cross_entropy(logits, mask, self.label_smoothing) * weights, weights)


class BinaryCrossEntropy(PixelLoss):
    """Sigmoid cross entropy with a factor on the positive pixels (torch.nn.BCEWithLogitsLoss), mean over valid pixels.

    `pos_weight`: one number above 0, in multilabel mode also one per class; above 1 it buys recall with precision.
    """

    name = "bce"
    modes = ("binary", "multilabel")

    def __init__(self, spec: Spec, pos_weight: float | Sequence[float] | None = None) -> None:
        super().__init__(spec)
        if isinstance(pos_weight, Sequence) and not isinstance(pos_weight, str):
            numbers = self.numbers("pos_weight", pos_weight, spec.out_channels, low=0.0, above=True)
        else:
            numbers = [self.number("pos_weight", 1.0 if pos_weight is None else pos_weight, 0.0, above=True)]
        weight = None if pos_weight is None else torch.tensor(numbers).view(-1, 1, 1)
        self.register_buffer("pos_weight", weight, persistent=False)
        self.pos_weight: Tensor | None

    def compute(self, logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        """Scalar; see Loss.compute."""
        target = self.positives(mask).to(logits.dtype)
        factor = None if self.pos_weight is None else self.pos_weight.to(logits.dtype)
        cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=factor)
        return self.ratio(cost * valid, valid)
