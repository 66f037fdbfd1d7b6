"""COCO's average precision of objects, for masks and for boxes, by faster_coco_eval (the rules of pycocotools).

As in COCO: IoU 0.50, 0.55 .. 0.95; precision at 101 recalls; small up to 32^2, medium up to 96^2, large from there, by the
pixels of the mask (an object of 32^2 is both small and medium); of each class the `detections` most certain in an image, of
equal scores the earlier one first.

Pixels of void (see objects.py) are, in each image, a crowd of every class: a detection that matches no object and lies in
void is no error. For boxes too the pixels of a detection's mask say how much of it lies there: the box around scattered void
would be the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seglab import rle
from seglab.metrics.objects import Scene
from seglab.types import Instances

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "box_ap", "box_ap50", "box_ap75")
RANGES = {"all": [0, 1e10], "small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 1e10]}
HALF, THREE_QUARTERS = 0, 5  # where IoU 0.50 and 0.75 stand in 0.50, 0.55 .. 0.95


def scores(scenes: Sequence[Scene], classes: Sequence[int], detections: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The numbers of `NAMES`, and ap, ap50 and box_ap of each of C classes (C,); NaN where no object is true."""
    mask, box = precision(scenes, classes, detections)
    total = {"ap": _mean(mask[..., 0]), "ap50": _mean(mask[HALF, ..., 0]), "ap75": _mean(mask[THREE_QUARTERS, ..., 0])}
    total |= {f"ap_{name}": _mean(mask[..., a]) for a, name in enumerate(RANGES) if name != "all"}
    total |= {"box_ap": _mean(box), "box_ap50": _mean(box[HALF]), "box_ap75": _mean(box[THREE_QUARTERS])}
    columns = {"ap": mask[..., 0], "ap50": mask[[HALF], ..., 0], "box_ap": box[..., 0]}
    return total, {name: np.array([_mean(c[..., k]) for k in range(len(classes))]) for name, c in columns.items()}


def precision(scenes: Sequence[Scene], classes: Sequence[int], detections: int) -> tuple[np.ndarray, np.ndarray]:
    """COCO's precision at IoU, recall, class and area: of masks (10, 101, C, 4) and, for all areas, of boxes (10, 101, C, 1).

    -1 where nothing is true.
    """
    from faster_coco_eval import COCOeval_faster

    tables = [np.full((10, 101, len(classes), areas), -1.0) for areas in (len(RANGES), 1)]
    sides = _sides(scenes, classes)
    for number, kind in enumerate(("segm", "bbox") if scenes and classes else ()):
        judge = COCOeval_faster(*sides, iouType=kind, print_function=_silent)
        judge.params.maxDets = [detections]
        judge.params.areaRng = list(RANGES.values())[: tables[number].shape[-1]]
        judge.params.areaRngLbl = list(RANGES)[: tables[number].shape[-1]]
        if kind == "bbox":
            _void_by_pixels(judge)
        judge.evaluate()
        judge.accumulate()
        tables[number] = np.asarray(judge.eval["precision"])[..., 0]
    return tables[0], tables[1]


def _sides(scenes: Sequence[Scene], classes: Sequence[int]) -> list[Any]:
    """The true objects and the found ones, each as the library's COCO."""
    from faster_coco_eval import COCO

    images = [{"id": i, "height": s.truth.size[0], "width": s.truth.size[1]} for i, s in enumerate(scenes, 1)]
    categories = [{"id": k, "name": str(k)} for k in classes]
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, scene in enumerate(scenes, 1):
        true += _annotations(scene.truth, image, classes)
        if scene.void:  # the last of each class: _void_by_pixels looks for it there
            void = rle.instances([scene.void] * len(classes), scene.truth.size, classes, crowd=[True] * len(classes))
            true += [{**one, "void": True} for one in _annotations(void, image, classes)]
        found += _annotations(scene.found, image, classes)
    sides = []
    for some in (true, found):
        side = COCO(print_function=_silent)
        # The library takes id 0 for "unmatched".
        annotations = [{**one, "id": number} for number, one in enumerate(some, 1)]
        side.dataset = {"images": images, "annotations": annotations, "categories": categories}
        side.createIndex()
        sides.append(side)
    return sides


def _void_by_pixels(judge: Any) -> None:
    """Against void, a detection's box is compared by its mask: the share of its pixels that are void."""
    by_boxes = judge.computeIoU

    def compute(image: int, label: int) -> Any:
        ious = by_boxes(image, label)
        true = judge.gt_dataset.get_instances([image], [label], True)[0][0]
        if len(ious) and true[-1].get("void"):
            found = judge.dt_dataset.get_instances([image], [label], True)[0][0]
            order = np.argsort([-one["score"] for one in found], kind="mergesort")[: judge.params.maxDets[-1]]
            masks = [found[i]["segmentation"] for i in order]
            rles, void = [one["counts"] for one in masks], true[-1]["segmentation"]["counts"]
            size = tuple(masks[0]["size"])
            ious[:, -1] = rle.overlaps(rles, [void], size)[:, 0] / np.maximum(rle.areas(rles, size), 1)
        return ious

    judge.computeIoU = compute


def _annotations(some: Instances, image: int, classes: Sequence[int]) -> list[dict[str, Any]]:
    """The objects of these classes in the form of COCO's JSON, ids left out."""
    areas = rle.areas(some.rles, some.size).tolist()
    x1, y1, x2, y2 = some.boxes.reshape(-1, 4).T
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], 1).tolist()
    columns = zip(some.rles, areas, boxes, some.labels.tolist(), some.scores.tolist(), some.crowd.tolist(), strict=True)
    return [
        {
            "image_id": image,
            "category_id": label,
            "segmentation": {"size": list(some.size), "counts": counts},
            "area": area,
            "bbox": box,
            "iscrowd": int(crowd),
            "score": score,
        }
        for counts, area, box, label, score, crowd in columns
        if label in classes
    ]


def _silent(*_: Any) -> None:
    """Takes what the library would print."""


def _mean(values: np.ndarray) -> float:
    """COCO's mean, over what is not -1; NaN where all is."""
    kept = values[values > -1]
    return float(kept.mean()) if kept.size else float("nan")
