"""DeepLab v1 and v2: a dilated encoder, classified by convolutions with holes. arXiv:1412.7062 and arXiv:1606.00915."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError
from seglab.models import weights as pretrained
from seglab.models.auxiliary import enlarge
from seglab.models.backbone import backbone, init
from seglab.models.batchnorm import allow_one_value
from seglab.models.sizes import pad
from seglab.types import Output, Spec


class DeepLab(nn.Module):
    """Normalised float image B C H W -> logits B spec.out_channels H W.

    One `dilations` is v1 with a large field of view; several are v2's ASPP, whose branches are summed. With several `scales`
    the image is seen at each, the logits are the largest at each pixel, and in training Output holds each scale's.
    """

    def __init__(
        self, spec: Spec, encoder: str = "vgg16", weights: str | None = None, output_stride: int = 8,
        dilations: Sequence[int] = (12,), fc_channels: int | None = 1024, dropout: float = 0.5,
        scales: Sequence[float] = (1.0,),
    ) -> None:  # fmt: skip
        super().__init__()
        for key, values in (("dilations", dilations), ("scales", scales)):
            if not values or min(values) <= 0 or len(set(values)) < len(values):
                raise ConfigError(f"model.{key} is {list(values)}; it must be a list of different numbers above 0.")
        if fc_channels is not None and fc_channels < 1:
            raise ConfigError(f"model.fc_channels is {fc_channels}; it must be at least 1, or null.")
        self.encoder, (*_, width) = backbone(encoder, spec.channels, output_stride)
        self.branches = nn.ModuleList(_branch(width, fc_channels, spec.out_channels, rate, dropout) for rate in dilations)
        self.scales, self.output_stride = tuple(scales), output_stride
        self.aux = tuple(f"x{scale:g}" for scale in scales) if len(scales) > 1 else ()
        allow_one_value(self)
        self.mean, self.std = pretrained.start(self.encoder, encoder, weights, spec.channels)

    def forward(self, image: Tensor) -> Tensor | Output:
        """Logits of exactly the image's height and width."""
        if not self.aux:
            return self._at_scale(image, self.scales[0])
        views = {name: self._at_scale(image, scale) for name, scale in zip(self.aux, self.scales, strict=True)}
        logits = torch.stack(list(views.values())).amax(0)
        return Output(logits, views) if self.training else logits

    def _at_scale(self, image: Tensor, scale: float) -> Tensor:
        size = image.shape[-2:]
        if scale != 1:
            smaller = [max(1, round(side * scale)) for side in size]
            image = F.interpolate(image, size=smaller, mode="bilinear", align_corners=False, antialias=scale < 1)
        padded = pad(image, self.output_stride)
        features = self.encoder(padded)[-1]
        scores = torch.stack([branch(features) for branch in self.branches]).sum(0)
        logits = enlarge(scores, padded.shape[-2:], image.shape[-2:])
        return logits if scale == 1 else enlarge(logits, size, size)


def _branch(inside: int, middle: int | None, outside: int, dilation: int, dropout: float) -> nn.Sequential:
    """fc6 with holes, fc7 and the score; or, without `middle`, the score with holes alone, as v2 has it on ResNet."""
    holes = nn.Conv2d(inside, middle or outside, 3, padding=dilation, dilation=dilation)
    layers: list[nn.Module] = [holes]
    if middle:
        fc7 = nn.Conv2d(middle, middle, 1)
        init(holes)
        init(fc7)
        layers += [nn.ReLU(), nn.Dropout(dropout), fc7, nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(middle, outside, 1)]
    score = cast(nn.Conv2d, layers[-1])
    nn.init.normal_(score.weight, std=0.01)
    nn.init.zeros_(cast(Tensor, score.bias))
    return nn.Sequential(*layers)
