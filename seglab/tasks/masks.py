"""Semantic segmentation by mask classification: queries name classes and draw masks, pixels get their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from seglab.tasks.base import Batch, Task
from seglab.types import MaskQueries


class Masks(Task):
    """The network gives MaskQueries; masks are brought to the size of the data's mask before they become scores.

    A class's score at a pixel is the sum over queries of p(class) * p(pixel in mask), without the class "none" (Cheng et
    al. 2021, arXiv:2107.06278, section 3.4), so that metrics, pictures and files are those of any semantic network.
    """

    gives: ClassVar[str] = "masks"

    def compute_loss(self, output: MaskQueries, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and its parts, over the mask's own pixels."""
        return self.loss(output, batch["mask"])

    def at_size(self, output: MaskQueries, size: Sequence[int]) -> MaskQueries:
        """Mask logits B Q h w at (H, W) `size`, bilinear, in float32; in training the loss does so, for the few it needs."""
        if self.training or output.masks.shape[-2:] == tuple(size):
            return output
        masks = F.interpolate(output.masks.float(), size=tuple(size), mode="bilinear", align_corners=False)
        return output._replace(masks=masks)

    def decode(self, output: MaskQueries) -> Tensor:
        """Class ids B H W (multilabel: 0 or 1, B K H W): the largest score, or scores above a half."""
        scores = class_scores(output)
        return scores > 0.5 if self.spec.mode == "multilabel" else scores.max(1).indices

    def confidence(self, output: MaskQueries) -> Tensor:
        """The share of the decoded class in the scores of all, B H W."""
        scores = class_scores(output)
        return scores.max(1).values / scores.sum(1).clamp(min=1e-7)

    def probabilities(self, output: MaskQueries) -> Tensor:
        """Each class's share in the scores of all (binary: the foreground's); in multilabel mode the scores, at most 1."""
        scores = class_scores(output)
        if self.spec.mode == "multilabel":
            return scores.clamp(max=1)
        shares = scores / scores.sum(1, keepdim=True).clamp(min=1e-7)
        return shares[:, 1:] if self.spec.mode == "binary" else shares

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Tell the network, if it wants to know, which part of training is done."""
        progress = getattr(self.network, "progress", None)
        if progress is not None:
            progress.fill_(self.global_step / self.trainer.estimated_stepping_batches)


def class_scores(output: MaskQueries) -> Tensor:
    """Scores B K H W, float32, from class logits B Q K+1 and mask logits B Q H W."""
    classes = output.classes.float().softmax(2)[..., :-1]
    return (classes.transpose(1, 2) @ output.masks.float().sigmoid().flatten(2)).unflatten(2, output.masks.shape[-2:])
