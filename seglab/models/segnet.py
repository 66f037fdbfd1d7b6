"""SegNet and SegNet-Basic: a decoder that puts every value back where max-pooling found it (arXiv:1511.00561)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seglab.models import weights as pretrained
from seglab.models.batchnorm import allow_one_value
from seglab.types import Spec

# Channels of the convolutions, stage by stage. SegNet's encoder has the 13 of VGG-16, its decoder their mirror image: the
# last convolution of a stage narrows to the next stage's width. A head of one more convolution gives the classes.
Widths = tuple[tuple[int, ...], ...]
VGG16: Widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MIRROR: Widths = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))
BASIC: Widths = ((64,), (64,), (64,), (64,))

Pooled = tuple[Tensor, torch.Size]  # where the maxima were, and the size of the map they were taken from


def unpool(x: Tensor, pooled: Pooled) -> Tensor:
    """B C h w -> B C H W: each value at the pixel its pooling index names, zeros elsewhere."""
    # F.max_unpool2d does the same but has no deterministic form; windows that do not overlap never name a pixel twice.
    where, (height, width) = pooled
    empty = x.new_zeros(*x.shape[:2], height * width)
    return empty.scatter(2, where.flatten(2), x.flatten(2)).unflatten(2, (height, width))


class Encoder(nn.Sequential):
    """Convolutions and poolings under torchvision's numbers (`features` of vgg16_bn), so that its weights fit.

    forward: image B C H W -> the last stage's features, and of each pooling the indices and the size before it.
    """

    def __init__(self, inside: int, stages: Widths, **block: Any) -> None:
        layers: list[nn.Module] = []
        for widths in stages:
            layers += _stage(inside, widths, **block)
            # An odd row or column is kept, as in the authors' Caffe: 45 pixels become 23.
            layers.append(nn.MaxPool2d(2, ceil_mode=True, return_indices=True))
            inside = widths[-1]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Pooled]]:  # noqa: D102
        pooled = []
        for layer in self:
            if isinstance(layer, nn.MaxPool2d):
                size = x.shape[-2:]
                x, where = layer(x)
                pooled.append((where, size))
            else:
                x = layer(x)
        return x, pooled


class Decoder(nn.ModuleList):
    """One stage for each pooling, the deepest first: unpool, then convolve the sparse map into a dense one."""

    def __init__(self, inside: int, stages: Widths, **block: Any) -> None:
        insides = (inside, *(widths[-1] for widths in stages))
        super().__init__(nn.Sequential(*_stage(i, widths, **block)) for i, widths in zip(insides, stages, strict=False))

    def forward(self, x: Tensor, pooled: list[Pooled]) -> Tensor:  # noqa: D102
        for stage, indices in zip(self, reversed(pooled), strict=True):
            x = stage(unpool(x, indices))
        return x


def _stage(inside: int, widths: tuple[int, ...], kernel: int, bias: bool, relu: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(inside, width, kernel, padding=kernel // 2, bias=bias), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(inplace=True)] if relu else []
        inside = width
    return layers


class _Unpooling(nn.Module):
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(self, encoder: Encoder, decoder: Decoder, head: nn.Conv2d) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head
        for part in self.modules():
            if isinstance(part, nn.Conv2d):  # He et al. 2015, arXiv:1502.01852, as the paper has it
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        allow_one_value(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of exactly the image's height and width."""
        return self.head(self.decoder(*self.encoder(image)))


class SegNet(_Unpooling):
    """Normalised float image B C H W -> logits B spec.out_channels H W, any size.

    `weights` fills the encoder (VGG-16 with batch norm): None, "imagenet" or a file. `mean` and `std` are what they expect.
    """

    def __init__(self, spec: Spec, weights: str | None = None) -> None:
        # Batch norm makes the biases idle; the authors' Caffe model and torchvision's vgg16_bn have them.
        super().__init__(
            Encoder(spec.channels, VGG16, kernel=3, bias=True),
            Decoder(512, MIRROR, kernel=3, bias=True),
            nn.Conv2d(64, spec.out_channels, 3, padding=1),
        )
        self.mean, self.std = pretrained.start(self.encoder, "vgg16_bn", weights, spec.channels)


class SegNetBasic(_Unpooling):
    """The paper's small variant: 7x7 kernels, 64 channels throughout, no biases before batch norm, no ReLU in the decoder.

    Normalised float image B C H W -> logits B spec.out_channels H W, any size.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(
            Encoder(spec.channels, BASIC, kernel=7, bias=False),
            Decoder(64, BASIC, kernel=7, bias=False, relu=False),
            nn.Conv2d(64, spec.out_channels, 1),
        )
