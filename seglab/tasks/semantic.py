"""Semantic segmentation: one class per pixel (binary, multiclass) or several (multilabel)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from seglab.tasks.base import Batch, Task


class Semantic(Task):
    """The network gives logits B K H W; they are brought to the mask's size, never the mask to theirs."""

    def compute_loss(self, output: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and its parts, over the mask's own pixels."""
        return self.loss(output, batch["mask"])

    def at_size(self, output: Tensor, size: Sequence[int]) -> Tensor:
        """Logits B K h w at (H, W) `size`, bilinear, in float32; unchanged if the size fits."""
        if output.shape[-2:] == tuple(size):
            return output
        return F.interpolate(output.float(), size=tuple(size), mode="bilinear", align_corners=False)

    def decode(self, output: Tensor) -> Tensor:
        """Class ids B H W (multilabel: 0 or 1, B K H W): the largest logit, or logits above 0."""
        if self.spec.mode == "multiclass":
            return output.max(1).indices  # the same as argmax, and twice as fast on a CPU
        positive = output > 0
        return positive.squeeze(1) if self.spec.mode == "binary" else positive
