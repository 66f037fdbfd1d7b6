"""The parts of a two-stage detector, built of torchvision's: proposals, and heads for class, box and mask.

Under autocast torchvision decodes boxes in the type of the network's answer, and bfloat16 knows only every fourth pixel
beyond 512; here what becomes a box, a score or a loss is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign


class _ProposalHead(RPNHead):
    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, boxes = super().forward(x)
        return [o.float() for o in objectness], [b.float() for b in boxes]


class _BoxPredictor(FastRCNNPredictor):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        classes, boxes = super().forward(x)
        return classes.float(), boxes.float()


class _MaskPredictor(MaskRCNNPredictor):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


def proposals(width: int, anchors: Sequence[float], ratios: Sequence[float], depth: int, top: int) -> RegionProposalNetwork:
    """Region proposals (Ren et al. 2015, arXiv:1506.01497): at most `top` boxes an image, twice as many in training."""
    generator = AnchorGenerator(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors))
    head = _ProposalHead(width, len(ratios), conv_depth=depth)
    count = {"training": 2 * top, "testing": top}
    return RegionProposalNetwork(generator, head, 0.7, 0.3, 256, 0.5, count, count, 0.7)


def heads(width: int, classes: int, version: int, regions: int, detections: int, min_score: float, nms: float) -> RoIHeads:
    """Class, box and mask of a proposal; `classes` counts the background.

    They are taught by `regions` proposals of an image, at most a quarter of them objects, and give at most `detections`.
    """
    levels = ["0", "1", "2", "3"]
    box_pool, mask_pool = (MultiScaleRoIAlign(levels, output_size=side, sampling_ratio=2) for side in (7, 14))
    norm: dict[str, Any] = {"norm_layer": nn.BatchNorm2d} if version == 2 else {}
    box_head: nn.Module = TwoMLPHead(width * 7 * 7, 1024)
    if version == 2:
        box_head = FastRCNNConvFCHead((width, 7, 7), [width] * 4, [1024], **norm)
    return RoIHeads(
        box_pool, box_head, _BoxPredictor(1024, classes), 0.5, 0.5, regions, 0.25, None, min_score, nms, detections,
        mask_pool, MaskRCNNHeads(width, [width] * 4, 1, **norm), _MaskPredictor(width, width, classes),
    )  # fmt: skip
