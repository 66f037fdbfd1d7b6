"""FCN-32s, FCN-16s and FCN-8s on VGG-16, after Long et al. 2015, arXiv:1411.4038."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seglab.errors import ConfigError
from seglab.models import weights as pretrained
from seglab.models.auxiliary import enlarge
from seglab.models.backbone import VGG_NAMES, backbone, init
from seglab.models.batchnorm import allow_one_value
from seglab.models.sizes import pad
from seglab.types import Spec

log = logging.getLogger("seglab")
_SKIPS = {32: 0, 16: 1, 8: 2}  # stride of the finest score map: pool4 and pool3 that are joined


class FCN8s(nn.Module):
    """Normalised float image B C H W -> logits B spec.out_channels H W.

    The paper pads the image by 100 pixels and crops by offsets; here fc6 is padded by 3 on each side and the image to a
    multiple of 32, so that every score map lies on the image exactly. Its last upsampling is fixed to bilinear, which is
    torch's own interpolation; those before are transposed convolutions that start bilinear and learn.
    """

    def __init__(
        self, spec: Spec, encoder: str = "vgg16", weights: str | None = None, stride: int = 8, fc_channels: int = 4096,
        dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        if stride not in _SKIPS:
            raise ConfigError(f"model.stride is {stride}; it must be 8, 16 or 32.")
        if fc_channels < 1:
            raise ConfigError(f"model.fc_channels is {fc_channels}; it must be at least 1.")
        classes, count = spec.out_channels, _SKIPS[stride]
        self.encoder, _ = backbone(encoder, spec.channels, known=VGG_NAMES)
        self.fc6 = nn.Conv2d(512, fc_channels, 7, padding=3)
        self.fc7 = nn.Conv2d(fc_channels, fc_channels, 1)
        self.score = nn.Conv2d(fc_channels, classes, 1)
        self.skips = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in (512, 256)[:count])
        self.ups = nn.ModuleList(Double(classes) for _ in range(count))
        self.dropout = nn.Dropout(dropout)
        for conv in (self.fc6, self.fc7):
            init(conv)
        for conv in (self.score, *self.skips):  # as in the paper: each skip starts without a say
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        allow_one_value(self)
        self.mean, self.std = pretrained.start(self.encoder, encoder, weights, spec.channels)
        if weights is not None and Path(weights).expanduser().is_file():
            self._transplant(Path(weights).expanduser())

    def forward(self, image: Tensor) -> Tensor:
        """Logits of exactly the image's height and width."""
        padded = pad(image, 32)
        *_, pool3, pool4, pool5 = self.encoder(padded)
        fc6 = self.dropout(F.relu(self.fc6(pool5)))
        fc7 = self.dropout(F.relu(self.fc7(fc6)))
        scores = self.score(fc7)
        for up, skip, features in zip(self.ups, self.skips, (pool4, pool3), strict=False):
            scores = up(scores) + skip(features)
        return enlarge(scores, padded.shape[-2:], image.shape[-2:])

    @torch.no_grad()
    def _transplant(self, path: Path) -> None:
        # A classifier's first two layers are fc6 and fc7 with their kernels flattened.
        source = pretrained.read(path)
        for name, conv in (("classifier.0", self.fc6), ("classifier.3", self.fc7)):
            found = {part: source.get(f"{name}.{part}", torch.empty(0)) for part in ("weight", "bias")}
            if any(found[part].numel() != own.numel() for part, own in conv.named_parameters()):
                log.info("model.weights=%s: it has no %s for model.fc_channels=%d", path, name, self.fc7.in_channels)
                return
            conv.load_state_dict({part: found[part].view_as(own) for part, own in conv.named_parameters()})


class Double(nn.ConvTranspose2d):
    """B K h w -> B K 2h 2w: a transposed convolution that starts as bilinear interpolation of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 4, stride=2, padding=1, bias=False)
        tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
        with torch.no_grad():
            self.weight.zero_()
            self.weight[range(channels), range(channels)] = torch.outer(tent, tent)
