"""The ledger: what the network has really been shown in training, counted batch by batch where the batch is."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics import Metric

from seglab.types import SEEN, Spec


class Ledger(Metric):
    """Sums over the samples of an epoch of what each shows of each class; exact under several processes."""

    full_state_update = False
    counts: Tensor
    samples: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(len(SEEN), classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, seen: Tensor) -> None:
        """Add a batch: int64 (B, 4, K), rows as types.SEEN names them."""
        self.counts += seen.sum(0)
        self.samples += len(seen)

    def compute(self) -> tuple[Tensor, Tensor]:
        """How many samples, and the sums (4, K)."""
        return self.samples, self.counts


def seen(batch: dict[str, Tensor], spec: Spec) -> Tensor:
    """What each sample shows of each class, int64 (B, 4, K), rows as types.SEEN: from its mask as it came, before `long`.

    `target` (B,) is the class a sample was aimed at, or -1: one that the mixing of images has covered was not met. `objects`
    (B, K) are counted where they are told apart.
    """
    pixels = class_pixels(batch["mask"], spec)
    there = (pixels > 0).long()
    aimed = there * (batch["target"][:, None] == torch.arange(spec.num_classes, device=pixels.device))
    return torch.stack([pixels, there, batch.get("objects", torch.zeros_like(pixels)), aimed], 1)


def class_pixels(mask: Tensor, spec: Spec) -> Tensor:
    """The pixels of each class in masks B H W (multilabel: B K H W), int64 (B, K); nothing waits for a CUDA device."""
    if spec.mode == "multilabel":
        return (mask == 1).flatten(2).sum(2)
    if mask.device.type == "cpu" and mask.dtype == torch.uint8:  # Pillow's is ten times faster than what follows
        histograms = [Image.fromarray(one).histogram()[: spec.num_classes] for one in mask.numpy()]
        return torch.from_numpy(np.pad(np.array(histograms), ((0, 0), (0, max(0, spec.num_classes - 256)))))
    return torch.stack([(mask == k).flatten(1).sum(1) for k in range(spec.num_classes)], 1)
