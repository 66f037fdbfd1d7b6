"""Instance segmentation: the network finds objects; from them follow masks, a map of classes, and every score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from seglab import rle
from seglab.errors import ConfigError
from seglab.tasks.base import Batch, Task
from seglab.tasks.optimization import Optimization
from seglab.types import Detections, Instances, Phase, Spec

_KEPT = 0.5  # an object of which more certain ones leave no more than this share is no segment


class Found(NamedTuple):
    """Detections of one image at their final size: `masks` N H W bool, and `segments` H W int32, which do not overlap.

    A segment's id is the position of its detection plus one; 0 is background.
    """

    masks: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    segments: np.ndarray


class Instance(Task):
    """The network gives Detections, and in training the parts of its own loss.

    Objects of at least `min_score` become segments: where they overlap the more certain one has the pixel, and one that keeps
    no more than half of its pixels is left out (Kirillov et al. 2019, arXiv:1801.00868, section 6). The classes of the segments
    are the semantic map. Average precision sees all detections. There is no loss outside training.
    """

    gives: ClassVar[str] = "instances"
    headline: ClassVar[str] = "ap"
    finds_objects: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        metrics: Mapping[Phase, MetricCollection],
        spec: Spec,
        optimization: Optimization | None = None,
        min_score: float = 0.5,
    ) -> None:
        if not 0 <= min_score <= 1:
            raise ConfigError(f"task.min_score is {min_score}; it must be from 0 to 1.")
        self.min_score = min_score
        super().__init__(network, loss, metrics, spec, optimization)

    def losses(self, phase: Phase) -> tuple[str, ...]:
        """In training the loss and its parts; elsewhere nothing, since a detector computes them only where it is taught."""
        parts = getattr(self.network, "parts", ())
        return (*super().losses(phase), *(f"loss/{name}" for name in parts)) if phase == "train" else ()

    def answer(self, batch: Batch, phase: Phase) -> Any:
        """The losses in training, else what was found in each image at its mask's size."""
        if phase == "train":
            targets = [target(*one) for one in zip(batch["instances"], batch["labels"], batch["crowd"], strict=True)]
            return self.network(self.normalize(batch["image"]), targets)
        return super().answer(batch, phase)

    def compute_loss(self, output: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and the parts before their weights."""
        total, terms = self.loss(output, batch["mask"])
        return total, {**terms, **{name: value.detach() for name, value in output.items()}}

    def at_size(self, output: list[Detections], size: Sequence[int]) -> list[Found]:
        """Boxes and masks at (H, W) `size`; a mask's pixels are those with a probability of at least a half."""
        return [self._found(one, (int(size[0]), int(size[1]))) for one in output]

    def decode(self, output: list[Found]) -> Tensor:
        """Class ids B H W of the segments; 0 where there is none."""
        tables = [np.concatenate([[0], one.labels]) for one in output]
        ids = np.stack([table[one.segments] for table, one in zip(tables, output, strict=True)])
        return torch.from_numpy(ids).to(self.device)

    def objects(self, output: list[Found], decoded: Tensor) -> tuple[list[Instances], list[Instances]]:
        """All detections of each image, and the segments among them."""
        return [self._all(one) for one in output], [self._segments(one) for one in output]

    def _found(self, one: Detections, size: tuple[int, int]) -> Found:
        scale = one.boxes.new_tensor([size[1] / one.size[1], size[0] / one.size[0]]).repeat(2)
        boxes = one.boxes.float() * scale
        kept = paste(one.masks.float(), boxes, size).cpu().numpy()
        labels, scores = one.labels.cpu().numpy(), one.scores.double().cpu().numpy()
        segments = segment(kept, scores, self.min_score)
        return Found(kept, boxes.double().cpu().numpy(), labels, scores, segments)

    def _all(self, one: Found) -> Instances:
        return rle.instances(rle.encode(one.masks), one.segments.shape, one.labels, one.scores, at=one.boxes)

    def _segments(self, one: Found) -> Instances:
        kept = np.unique(one.segments)
        kept = kept[kept > 0]
        rles = rle.encode_ids(one.segments, kept.tolist())
        return rle.instances(rles, one.segments.shape, one.labels[kept - 1], one.scores[kept - 1])


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks N h w of probabilities that span their boxes N 4, as bool N H W.

    A pixel belongs to the object if its centre lies in the box and what is read there is at least 0.5. torchvision's own cuts
    boxes to whole pixels first, which moves small objects by up to one.
    """
    out = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for n, (left, top, right, bottom) in enumerate(boxes.tolist()):
        axes, place = [], []
        for low, high, end in ((top, bottom, size[0]), (left, right, size[1])):
            first, last = (min(max(math.ceil(edge - 0.5), 0), end) for edge in (low, high))
            place.append(slice(first, last))
            centres = torch.arange(first, last, device=masks.device) + 0.5
            axes.append(2 * (centres - low) / max(high - low, 1e-6) - 1)
        y, x = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack([x, y], -1)[None]
        read = F.grid_sample(masks[n, None, None], grid, padding_mode="border", align_corners=False)
        out[n, place[0], place[1]] = read[0, 0] >= 0.5
    return out


def segment(masks: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """Ids H W int32, n + 1 where the n-th of the masks (bool N H W) of a score of at least `least` is the most certain."""
    ids = np.zeros(masks.shape[1:], np.int32)
    for n in np.argsort(-scores, kind="stable"):
        free = masks[n] & (ids == 0)
        if scores[n] >= least and free.sum() > _KEPT * masks[n].sum():
            ids[free] = n + 1
    return ids


def target(layers: Tensor, labels: Tensor, crowd: Tensor) -> dict[str, Tensor]:
    """What a detector is taught of one image: boxes N 4, labels N, masks N H W uint8, from ids L H W (see seglab.types).

    Boxes are those of the pixels that are left, so that none is degenerate; objects without pixels and crowds are left out.
    """
    ids = torch.unique(layers)
    ids = ids[ids > 0].long()
    ids = ids[(labels[ids - 1] > 0) & ~crowd[ids - 1]]
    masks = (layers[None] == ids[:, None, None, None]).any(1)
    return {"boxes": boxes_of(masks), "labels": labels[ids - 1], "masks": masks.to(torch.uint8)}


def boxes_of(masks: Tensor) -> Tensor:
    """x1 y1 x2 y2 of masks N H W with pixels, float32 N 4: their outer edges, so that one pixel is a box of one by one."""
    sides = []
    for axis in (1, 2):  # the columns that hold a pixel, then the rows
        held = masks.any(axis).to(torch.uint8)
        first = held.argmax(1) if len(held) else held.new_zeros(0)
        last = held.shape[1] - held.flip(1).argmax(1) if len(held) else held.new_zeros(0)
        sides.append((first, last))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], 1).float()
