"""Encoders whose last stages may be dilated, which FCN and the first DeepLabs stand on: ResNet and VGG as in torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from seglab.errors import ConfigError, nearest
from seglab.models.encoders import check_name
from seglab.models.probe import freeze_unused

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")
VGGS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
VGG_NAMES = (*VGGS, *(f"{name}_bn" for name in VGGS))


class ResNet(nn.Module):
    """Image B C H W -> the outputs of layer1 ... layer4; parts and weights are named as in torchvision (arXiv:1512.03385).

    Strides beyond `output_stride` become dilations, as torchvision's replace_stride_with_dilation has it, with basic blocks
    too. `widths` are the channels of the four outputs.
    """

    def __init__(self, name: str, channels: int, output_stride: int = 32) -> None:
        super().__init__()
        net = getattr(torchvision.models, name)(weights=None)
        if channels != 3:
            net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        dilation = 1
        for stage, stride in ((net.layer3, 16), (net.layer4, 32)):
            if stride > output_stride:
                _dilate(stage, dilation, 2 * dilation)
                dilation *= 2
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.widths = tuple(net.inplanes // 2**i for i in (3, 2, 1, 0))

    def forward(self, image: Tensor) -> list[Tensor]:
        """From fine to coarse: strides 4, 8, 16, 32, none beyond the output stride."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def _dilate(stage: nn.Sequential, before: int, after: int) -> None:
    # The block that had the stride still reads undilated features, so it keeps the dilation before it.
    for i, block in enumerate(stage):
        for conv in (part for part in block.modules() if isinstance(part, nn.Conv2d)):
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (before if i == 0 else after,) * 2


class VGG(nn.Module):
    """Image B C H W -> the outputs of the five poolings; weights are named as in torchvision (arXiv:1409.1556).

    Poolings beyond `output_stride` become 3x3 with stride 1, and what follows is dilated twice as far (DeepLab,
    arXiv:1412.7062). `widths` are the channels of the five outputs.
    """

    widths = (64, 128, 256, 512, 512)

    def __init__(self, name: str, channels: int, output_stride: int = 32) -> None:
        super().__init__()
        self.features = make_layers(cfgs[VGGS[name.removesuffix("_bn")]], batch_norm=name.endswith("_bn"))
        if channels != 3:
            self.features[0] = nn.Conv2d(channels, 64, 3, padding=1)
        stride, dilation = 1, 1
        for i, layer in enumerate(self.features):
            if isinstance(layer, nn.Conv2d):
                layer.dilation = layer.padding = (dilation, dilation)
                init(layer)
            elif isinstance(layer, nn.MaxPool2d) and stride < output_stride:
                stride *= 2
            elif isinstance(layer, nn.MaxPool2d):
                self.features[i] = nn.MaxPool2d(3, stride=1, padding=1)
                dilation *= 2

    def forward(self, image: Tensor) -> list[Tensor]:
        """From fine to coarse: strides 2, 4, 8, 16, 32, none beyond the output stride."""
        x, features = image, []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                features.append(x)
        return features


def init(conv: nn.Conv2d) -> None:
    """He et al. 2015, arXiv:1502.01852: the scale of activations stays through the layers.

    So a VGG without norms trains from random weights, where Gaussians of std 0.01 need a pretrained start.
    """
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def backbone(
    name: str, channels: int, output_stride: int = 32, known: Sequence[str] = (), used: int = 1
) -> tuple[nn.Module, tuple[int, ...]]:
    """The encoder of that name, image B C H W -> a list of features from fine to coarse, and their channels.

    Of an encoder of smp, what none of the last `used` features depends on asks for no gradient. ConfigError unless the name
    is `known` (empty: any of smp or timm that can be dilated) and `output_stride` is 8, 16 or 32.
    """
    if known and name not in known:
        raise ConfigError(f"There is no encoder model.encoder={name} for this network.{nearest(name, known)}")
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"model.output_stride is {output_stride}; it must be 8, 16 or 32.")
    if name not in (*VGG_NAMES, *RESNETS):
        return _of_smp(name, channels, output_stride, used)
    encoder = (VGG if name in VGG_NAMES else ResNet)(name, channels, output_stride)
    return encoder, encoder.widths


def _of_smp(name: str, channels: int, output_stride: int, used: int) -> tuple[nn.Module, tuple[int, ...]]:
    check_name(name)
    try:
        encoder = get_encoder(name, in_channels=channels, weights=None, output_stride=output_stride)
        features = encoder.eval()(torch.zeros(1, channels, 96, 64))
    except Exception as error:
        reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
        raise ConfigError(
            f"model.encoder={name} cannot be had at model.output_stride={output_stride} ({reason}); "
            "take a convolutional one, such as resnet18 or tu-tf_efficientnet_lite0."
        ) from error
    freeze_unused(encoder, features[-used:])
    return encoder.train(), tuple(encoder.out_channels)
