"""A feature pyramid (FPN) over an encoder's last four scales, named as torchvision names it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from seglab.errors import ConfigError
from seglab.models.backbone import backbone


class Pyramid(nn.Module):
    """Image B C H W, sides multiples of `stride` -> features of `width` channels at strides 4, 8, 16, 32 and 64.

    Lin et al. 2017, arXiv:1612.03144. `body` is the encoder. ConfigError where it has no four scales.
    """

    LEVELS = 5
    stride = 32

    def __init__(self, encoder: str, channels: int, width: int, norm: Callable[..., nn.Module] | None = None) -> None:
        super().__init__()
        self.body, widths = backbone(encoder, channels, used=4)
        if len(widths) < 4 or min(widths[-4:]) < 1:
            raise ConfigError(f"model.encoder={encoder} has no features at strides 4, 8, 16 and 32; take one such as resnet50.")
        self.fpn = FeaturePyramidNetwork([*widths[-4:]], width, LastLevelMaxPool(), norm_layer=norm)
        self.out_channels = width

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """{"0", "1", "2", "3", "pool": features from fine to coarse}."""
        return self.fpn({str(i): feature for i, feature in enumerate(self.body(image)[-4:])})
