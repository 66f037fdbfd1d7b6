"""The ledger: what the network has really been shown in training, counted batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from seglab.types import SEEN


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
