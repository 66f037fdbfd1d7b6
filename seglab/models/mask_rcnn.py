"""Mask R-CNN: objects as boxes with classes, certainty and masks, on a feature pyramid over any encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList

from seglab.errors import ConfigError
from seglab.models import detector
from seglab.models import weights as pretrained
from seglab.models.batchnorm import allow_one_value, freeze
from seglab.models.encoders import Values, normalisation, per_channel
from seglab.models.pyramid import Pyramid
from seglab.models.sizes import grown
from seglab.types import Detections, Spec

LOSSES = {  # torchvision's names of the parts of the loss, and ours
    "loss_objectness": "objectness", "loss_rpn_box_reg": "proposal", "loss_classifier": "classifier", "loss_box_reg": "box",
    "loss_mask": "mask",
}  # fmt: skip


class MaskRCNN(nn.Module):
    """He et al. 2017 (arXiv:1703.06870) as torchvision has it: normalised image B C H W -> Detections for each image.

    Given `targets` (for each image `boxes` N 4, `labels` N, `masks` N H W) it returns the five parts of its loss instead.
    `version` 2 is torchvision's v2 (arXiv:2111.11429): deeper heads with batch norm. Parts are named as in torchvision, so
    that `weights`, else as in SMP, may also be a whole detector's file; what belongs to its own classes then stays at random.
    `freeze_norms` keeps the encoder's batch norm as the weights have it. `anchors` are the sides in pixels for the strides 4
    to 64. ConfigError names the wrong key.
    """

    gives: ClassVar[str] = "instances"
    parts: ClassVar[tuple[str, ...]] = tuple(LOSSES.values())

    def __init__(
        self,
        spec: Spec,
        encoder: str = "resnet50",
        weights: str | None = None,
        version: Literal[1, 2] = 1,
        freeze_norms: bool = False,
        anchors: Sequence[float] = (32, 64, 128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        width: int = 256,
        proposals: int = 1000,
        regions: int = 512,
        detections: int = 100,
        min_score: float = 0.05,
        nms: float = 0.5,
    ) -> None:
        super().__init__()
        _check(spec, version, anchors, ratios, width, proposals, regions, detections, min_score, nms)
        self.backbone = Pyramid(encoder, spec.channels, width, norm=nn.BatchNorm2d if version == 2 else None)
        self.rpn = detector.proposals(width, anchors, ratios, depth=version, top=proposals)
        self.roi_heads = detector.heads(width, spec.num_classes, version, regions, detections, min_score, nms)
        allow_one_value(self)
        self.mean: Values | None = None
        self.std: Values | None = None
        if weights is not None:
            self._fill(weights, encoder, spec.channels)
        if freeze_norms:
            freeze(self.encoder)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights fill; it may have a learning rate of its own."""
        return self.backbone.body

    def forward(self, image: Tensor, targets: list[dict[str, Tensor]] | None = None) -> list[Detections] | dict[str, Tensor]:
        """Detections in pixels of the image, the most certain first; with `targets`, the losses by name."""
        size = (image.shape[-2], image.shape[-1])
        # Padded by zeros, the mean of the images: mirrored borders would show objects that the truth does not have.
        height, width = (grown(side, self.backbone.stride) for side in size)
        padded = F.pad(image, (0, width - size[1], 0, height - size[0]))
        features = self.backbone(padded)
        found, losses = self.rpn(ImageList(padded, [size] * len(image)), features, targets)
        results, more = self.roi_heads(features, found, [size] * len(image), targets)
        if targets is not None:
            return {LOSSES[name]: value for name, value in {**losses, **more}.items()}
        return [Detections(r["boxes"], r["labels"], r["scores"], r["masks"][:, 0], size) for r in results]

    def _fill(self, weights: str, encoder: str, channels: int) -> None:
        """From a file of a whole detector, torchvision's or ours, or from one of the encoder, or from the hub."""
        path = Path(weights).expanduser()
        source = pretrained.read(path) if path.is_file() else {}
        if not any("roi_heads." in name for name in source):
            self.mean, self.std = pretrained.start(self.encoder, encoder, weights, channels)
            return
        pretrained.fill(self, {_renamed(name): tensor for name, tensor in source.items()}, weights, channels)
        mean, std = pretrained.own_normalisation(source) or normalisation(encoder)
        self.mean, self.std = per_channel(mean, channels), per_channel(std, channels)


def _renamed(name: str) -> str:
    """A tensor's name in today's torchvision; the files with COCO's weights keep those of 2019."""
    name = re.sub(r"mask_head\.mask_fcn(\d)", lambda m: f"mask_head.{int(m[1]) - 1}.0", name)
    name = re.sub(r"rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1", name)
    return re.sub(r"fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)$", r"fpn.\1_blocks.\2.0.\3", name)


def _check(
    spec: Spec, version: int, anchors: Sequence[float], ratios: Sequence[float], width: int, proposals: int,
    regions: int, detections: int, min_score: float, nms: float,
) -> None:  # fmt: skip
    if not spec.instances or spec.mode == "multilabel":
        raise ConfigError(
            "model=mask_rcnn learns single objects, and these data do not tell them apart; with masks of instance ids set "
            "data.foreground=true, with COCO annotations data=coco, else take another model."
        )
    if version not in (1, 2):
        raise ConfigError(f"model.version is {version}; it must be 1 or 2.")
    if len(anchors) != Pyramid.LEVELS or min(anchors) <= 0:
        raise ConfigError(
            f"model.anchors is {list(anchors)}; give {Pyramid.LEVELS} sides in pixels above 0, for strides 4 to 64."
        )
    if not ratios or min(ratios) <= 0:
        raise ConfigError(f"model.ratios is {list(ratios)}; give height / width of the anchors, each above 0.")
    for key, value in (("width", width), ("proposals", proposals), ("regions", regions), ("detections", detections)):
        if value < 1:
            raise ConfigError(f"model.{key} is {value}; it must be at least 1.")
    for key, share in (("min_score", min_score), ("nms", nms)):
        if not 0 <= share <= 1:
            raise ConfigError(f"model.{key} is {share}; it must be from 0 to 1.")
