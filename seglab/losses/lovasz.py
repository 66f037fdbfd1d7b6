"""The Lovász losses, which follow the IoU itself instead of a soft count."""

from __future__ import annotations

import torch
from torch import Tensor

from seglab.losses.base import Loss


class Lovasz(Loss):
    """Lovász-softmax in multiclass mode (arXiv:1705.08790), Lovász hinge else (arXiv:1512.07797); Berman et al. 2018.

    Over the whole batch per class. Absent classes: left out of the mean in multiclass mode; else their term is the mean
    hinge over the valid pixels (the paper's would push down only the single worst pixel of an empty mask).
    """

    name = "lovasz"

    def compute(self, logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        """Scalar; see Loss.compute. Sorts all pixels once per class."""
        target = self.positives(mask)
        if self.spec.mode == "multiclass":
            prob = logits.softmax(1)
            error = torch.where(target, 1 - prob, prob)
        else:
            error = torch.where(target, 1 - logits, 1 + logits)
        # An error of 0 has no gradient and sorts last, so it moves no other pixel's slope: ignored pixels become one.
        error = _per_class(error.where(valid, 0).relu())
        weight = torch.stack([_jaccard_slope(e, t) for e, t in zip(error.detach(), _per_class(target), strict=True)])
        present = target.sum((0, 2, 3)) > 0
        counted = present
        if self.spec.mode != "multiclass":
            seen = valid.sum((0, 2, 3)).to(error.dtype)
            weight = weight.where(present.unsqueeze(1), 1 / seen.clamp(min=1).unsqueeze(1))
            counted = seen > 0
        cost = (error * weight).sum(1)
        return (cost * counted).sum() / counted.sum().clamp(min=1)


def _per_class(x: Tensor) -> Tensor:
    """B K H W to K rows of B*H*W pixels."""
    return x.transpose(0, 1).flatten(1)


@torch.no_grad()
def _jaccard_slope(error: Tensor, target: Tensor) -> Tensor:
    """By how much 1 - IoU rises as each pixel joins the wrong ones, worst first (algorithm 1); errors >= 0, both flat."""
    # The bits of floats of at least 0 sort like the floats, and torch sorts a row of integers 8 times faster on CPU.
    bits = error.view(torch.int64 if error.dtype == torch.float64 else torch.int32)
    order = (torch.iinfo(bits.dtype).max - bits).sort(stable=True).indices
    hit = target[order]
    # Integer sums: exact, and deterministic on CUDA, where a float cumsum is not.
    found = hit.cumsum(0, dtype=torch.int32).to(error.dtype)
    missed = found[-1] - found
    union = torch.arange(1, len(error) + 1, device=error.device, dtype=error.dtype) + missed
    # Written as a slope per pixel: neighbouring IoUs differ by less than float32 holds in large batches.
    slope = torch.where(hit, 1.0, missed / (union - 1).clamp(min=1)) / union
    return torch.empty_like(slope).scatter_(0, order, slope)
