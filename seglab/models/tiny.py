"""A U-Net in miniature: thirty thousand weights, a second to train. For tests, first tries and reading."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.types import Spec


def _block(inside: int, outside: int) -> nn.Sequential:
    layers = (nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.GroupNorm(4, outside), nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Tiny(nn.Module):
    """Two levels down and up again with skip connections (Ronneberger et al. 2015), group norm; any size, any batch.

    forward: image B C H W -> logits B out_channels H W.
    """

    mean = std = None

    def __init__(self, spec: Spec, width: int = 16) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([_block(spec.channels, width), _block(width, 2 * width), _block(2 * width, 2 * width)])
        self.decoder = nn.ModuleList([_block(4 * width, width), _block(2 * width, width)])
        self.head = nn.Conv2d(width, spec.out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102
        high = self.encoder[0](image)
        middle = self.encoder[1](F.max_pool2d(high, 2, ceil_mode=True))
        low = self.encoder[2](F.max_pool2d(middle, 2, ceil_mode=True))
        middle = self.decoder[0](torch.cat([_like(low, middle), middle], 1))
        return self.head(self.decoder[1](torch.cat([_like(middle, high), high], 1)))


def _like(low: Tensor, high: Tensor) -> Tensor:
    return F.interpolate(low, size=high.shape[-2:], mode="nearest")
