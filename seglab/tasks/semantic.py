"""Semantic segmentation: one class per pixel (binary, multiclass) or several (multilabel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from seglab.errors import ConfigError
from seglab.tasks.base import Batch, Task
from seglab.tasks.optimization import Optimization
from seglab.types import Output, Phase, Spec


class Semantic(Task):
    """The network gives logits B K H W; they are brought to the mask's size, never the mask to theirs.

    `aux_weight` is the factor, of at least 0, on the loss of each of its auxiliary heads (ConfigError below 0).
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        metrics: Mapping[Phase, MetricCollection],
        spec: Spec,
        optimization: Optimization | None = None,
        aux_weight: float = 0.4,
    ) -> None:
        if not aux_weight >= 0:
            raise ConfigError(f"task.aux_weight is {aux_weight}; it must be 0 or more.")
        self.aux_weight = aux_weight
        self.aux = tuple(getattr(network, "aux", ()))
        super().__init__(network, loss, metrics, spec, optimization)

    def losses(self, phase: Phase) -> tuple[str, ...]:
        """The loss and its terms; in training, the whole loss of each auxiliary head too."""
        heads = tuple(f"loss/aux/{name}" for name in self.aux) if phase == "train" else ()
        return (*super().losses(phase), *heads)

    def compute_loss(self, output: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and its parts, over the mask's own pixels."""
        mask = batch["mask"]
        if not isinstance(output, Output):
            return self.loss(output, mask)
        total, parts = self.loss(output.logits, mask)
        for name, logits in output.aux.items():
            value, _ = self.loss(logits, mask)
            total, parts[f"aux/{name}"] = total + self.aux_weight * value, value.detach()
        return total, parts

    def at_size(self, output: Any, size: Sequence[int]) -> Any:
        """Logits B K h w at (H, W) `size`, bilinear, in float32; unchanged if the size fits."""
        if isinstance(output, Output):
            aux = {name: self.at_size(logits, size) for name, logits in output.aux.items()}
            return Output(self.at_size(output.logits, size), aux)
        if output.shape[-2:] == tuple(size):
            return output
        return F.interpolate(output.float(), size=tuple(size), mode="bilinear", align_corners=False)

    def decode(self, output: Tensor) -> Tensor:
        """Class ids B H W (multilabel: 0 or 1, B K H W): the largest logit, or logits above 0."""
        if self.spec.mode == "multiclass":
            return output.max(1).indices  # the same as argmax, and twice as fast on a CPU
        positive = output > 0
        return positive.squeeze(1) if self.spec.mode == "binary" else positive

    def confidence(self, output: Tensor) -> Tensor:
        """Sigmoid or softmax of the decoded class, B H W."""
        if self.spec.mode == "binary":
            return torch.sigmoid(output.float().abs()).squeeze(1)
        return output.float().softmax(1).max(1).values

    def probabilities(self, output: Tensor) -> Tensor:
        """Softmax over the classes; sigmoid in binary and multilabel mode."""
        return output.float().softmax(1) if self.spec.mode == "multiclass" else output.float().sigmoid()
