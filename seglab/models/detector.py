"""The parts of a two-stage detector, built of torchvision's: proposals, and heads for class, box and mask.

Under autocast torchvision makes anchors and decodes boxes in the type of the features, and bfloat16 knows only every fourth
pixel beyond 512; here what becomes a box, a score or a loss is float32. A box is the outer edges of its pixels, so that one
that was cut off at the image is still right; torchvision reads masks as if a pixel's centre were its index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

LEVELS = {"0": 4, "1": 8, "2": 16, "3": 32}  # of the pyramid that regions are read from, with their strides


class _Anchors(AnchorGenerator):
    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


class _Pool(MultiScaleRoIAlign):
    def __init__(self, side: int) -> None:
        super().__init__([*LEVELS], output_size=side, sampling_ratio=2)
        # torchvision infers them from the first image it sees, wrongly if that is small, and keeps them.
        self.scales = [1 / stride for stride in LEVELS.values()]
        self.map_levels = initLevelMapper(2, 5)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        kind = x["0"].dtype
        return super().forward({level: feature.float() for level, feature in x.items()}, boxes, image_shapes).to(kind)


class _Heads(RoIHeads):
    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        if targets is None:
            return super().forward(features, proposals, image_shapes)
        proposals, matched, labels, regression = self.select_training_samples(proposals, targets)
        classes, boxes = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        classifier, box = fastrcnn_loss(classes, boxes, labels, regression)
        objects = [torch.where(some > 0)[0] for some in labels]
        regions = [some[which] for some, which in zip(proposals, objects, strict=True)]
        masks = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, regions, image_shapes)))
        which = [some[at] for some, at in zip(matched, objects, strict=True)]
        centred = [some - 0.5 for some in regions]  # where torchvision reads the true masks
        mask = maskrcnn_loss(masks, centred, [t["masks"] for t in targets], [t["labels"] for t in targets], which)
        return [], {"loss_classifier": classifier, "loss_box_reg": box, "loss_mask": mask}


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
    generator = _Anchors(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors))
    head = _ProposalHead(width, len(ratios), conv_depth=depth)
    count = {"training": 2 * top, "testing": top}
    return RegionProposalNetwork(generator, head, 0.7, 0.3, 256, 0.5, count, count, 0.7)


def heads(width: int, classes: int, version: int, regions: int, detections: int, min_score: float, nms: float) -> RoIHeads:
    """Class, box and mask of a proposal; `classes` counts the background.

    They are taught by `regions` proposals of an image, at most a quarter of them objects, and give at most `detections`.
    """
    norm: dict[str, Any] = {"norm_layer": nn.BatchNorm2d} if version == 2 else {}
    box_head: nn.Module = TwoMLPHead(width * 7 * 7, 1024)
    if version == 2:
        box_head = FastRCNNConvFCHead((width, 7, 7), [width] * 4, [1024], **norm)
    return _Heads(
        _Pool(7), box_head, _BoxPredictor(1024, classes), 0.5, 0.5, regions, 0.25, None, min_score, nms, detections,
        _Pool(14), MaskRCNNHeads(width, [width] * 4, 1, **norm), _MaskPredictor(width, width, classes),
    )  # fmt: skip
