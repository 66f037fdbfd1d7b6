"""The loss that a detector computes itself, part by part."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seglab.errors import ConfigError
from seglab.losses.base import Loss
from seglab.types import Spec


class Own(Loss):
    """The weighted sum of the parts of Mask R-CNN's loss; He et al. 2017 (arXiv:1703.06870) weigh all by 1.

    `objectness` and `proposal` (their boxes) belong to the region proposals, `classifier`, `box` and `mask` to the heads.
    """

    name = "own"
    of: ClassVar[str] = "instances"

    def __init__(
        self,
        spec: Spec,
        objectness: float = 1.0,
        proposal: float = 1.0,
        classifier: float = 1.0,
        box: float = 1.0,
        mask: float = 1.0,
    ) -> None:
        super().__init__(spec)
        given = {"objectness": objectness, "proposal": proposal, "classifier": classifier, "box": box, "mask": mask}
        self.parts = {key: self.number(key, value, 0.0) for key, value in given.items()}
        if not any(self.parts.values()):
            raise ConfigError("loss 'own': every part has the weight 0; give at least one a weight above 0.")

    def forward(self, output: dict[str, Tensor], mask: Tensor) -> Tensor:  # type: ignore[override]
        """Scalar loss in float32 from the network's parts; the mask is not looked at."""
        if output.keys() != self.parts.keys():
            raise ConfigError(f"loss 'own' got the parts {', '.join(output)}; it weighs {', '.join(self.parts)}.")
        return torch.stack([weight * output[key].float() for key, weight in self.parts.items()]).sum()

    def compute(self, logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        """Not for logits: the network computes the parts."""
        raise NotImplementedError
