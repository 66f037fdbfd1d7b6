"""Average precision: that of pycocotools on 200 random sets."""

import contextlib
import io

import numpy as np
import pytest
from object_scenes import IGNORE, measure, scene, some, spec_of, values_of
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seglab import rle


class Reference(COCOeval):
    """pycocotools, but that void and a box share the void pixels of the detection's mask."""

    def computeIoU(self, image, label):
        ious = super().computeIoU(image, label)
        true, found = self._gts[image, label], self._dts[image, label]
        if self.params.iouType == "bbox" and len(found) and true and true[-1].get("void"):
            void = coco_mask.decode(true[-1]["segmentation"]) > 0
            order = np.argsort([-d["score"] for d in found], kind="mergesort")[: self.params.maxDets[-1]]
            for row, d in enumerate(order):
                mask = coco_mask.decode(found[d]["segmentation"]) > 0
                ious[row, -1] = (mask & void).sum() / mask.sum()
        return ious


def coco(images, annotations, k):
    made = COCO()
    categories = [{"id": c, "name": str(c)} for c in range(1, k)]
    listed = [{"id": i, "height": t.size[0], "width": t.size[1]} for i, (_, t, _) in enumerate(images)]
    numbered = [{**one, "id": n} for n, one in enumerate(annotations, 1)]
    made.dataset = {"images": listed, "annotations": numbered, "categories": categories}
    made.createIndex()
    return made


def annotation(i, mask, label, score=1.0, crowd=False, box=None):
    ys, xs = np.nonzero(mask)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if box is None else box
    x1, y1, x2, y2 = map(float, box)
    code = {"size": list(mask.shape), "counts": coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]}
    one = {"image_id": i, "category_id": int(label), "segmentation": code, "area": int(mask.sum()), "score": float(score)}
    return {**one, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(crowd)}


def pycocotools_scores(images, k, detections):
    true, found = [], []
    for i, (f, t, target) in enumerate(images):
        masks = rle.decode(t.rles, t.size)
        true += [annotation(i, m, c, crowd=w) for m, c, w in zip(masks, t.labels, t.crowd, strict=True)]
        void = (target == IGNORE) & ~masks.any(0)
        if void.any():
            true += [{**annotation(i, void, c, crowd=True), "void": True} for c in range(1, k)]
        rows = zip(rle.decode(f.rles, f.size), f.labels, f.scores, f.boxes, strict=True)
        found += [annotation(i, m, c, s, box=b) for m, c, s, b in rows]
    tables = {}
    for kind in ("segm", "bbox"):
        judge = Reference(coco(images, true, k), coco(images, found, k), kind)
        judge.params.maxDets = [detections]
        judge.evaluate()
        judge.accumulate()
        tables[kind] = judge.eval["precision"][..., 0]
    mean = lambda table: table[table > -1].mean() if (table > -1).any() else np.nan  # noqa: E731
    mask, box = tables["segm"], tables["bbox"][..., 0]
    names = {"ap": mask[..., 0], "ap50": mask[0, ..., 0], "ap75": mask[5, ..., 0]}
    names |= {f"ap_{name}": mask[..., a] for a, name in enumerate(("small", "medium", "large"), 1)}
    names |= {"box_ap": box, "box_ap50": box[0], "box_ap75": box[5]}
    per_class = {
        f"c{c}": {
            "ap": mean(mask[:, :, c - 1, 0]),
            "ap50": mean(mask[0, :, c - 1, 0]),
            "box_ap": mean(box[:, :, c - 1]),
        }
        for c in range(1, k)
    }
    return {name: mean(table) for name, table in names.items()}, per_class


def coco_case(seed):
    """What is special about a set depends on its number, so that every kind occurs often among 200."""
    rng = np.random.default_rng(seed)
    k, kind = 2 + seed % 3, seed % 8
    large = kind in (0, 7)
    size = tuple(rng.integers(110, 140, 2)) if large else tuple(rng.integers(20, 60, 2))
    largest, most = (150, 9) if large else (40, 8)
    options = {"crowds": seed % 2 == 0, "void": seed % 3 == 0, "ties": kind in (1, 2), "many": 130 if kind == 3 else 0}
    images = [scene(rng, k, size, most, largest, **options) for _ in range(rng.integers(1, 5))]
    empty = some([], [], size=size)
    if kind in (4, 5):  # nothing found, or nothing true; in every image or in the first
        several = len(images) if seed % 16 < 8 else 1
        bare = [(empty, t, x) if kind == 4 else (f, empty, x) for f, t, x in images[:several]]
        images = bare + images[several:]
    if kind == 6:  # a detector's boxes lie where they like
        images = [(f._replace(boxes=f.boxes + rng.normal(0, 0.7, f.boxes.shape)), t, x) for f, t, x in images]
    return k, images, 100 if seed % 5 else 3


@pytest.mark.slow
def test_average_precision_equals_pycocotools():
    seen = {name: 0 for name in ("ap", "ap_small", "ap_medium", "ap_large", "box_ap")}
    for seed in range(200):
        k, images, detections = coco_case(seed)
        metric = measure(spec_of(k), images, detections=detections)
        mine, table = values_of(metric), metric.per_class()
        with contextlib.redirect_stdout(io.StringIO()):
            total, per_class = pycocotools_scores(images, k, detections)
        np.testing.assert_allclose([mine[n] for n in total], list(total.values()), rtol=0, atol=1e-9, err_msg=f"set {seed}")
        for name, row in per_class.items():
            np.testing.assert_allclose([table[name][n] for n in row], list(row.values()), rtol=0, atol=1e-9)
        for name in seen:
            seen[name] += 0 < mine[name] < 1
    assert min(seen.values()) >= 15, seen  # the sets are neither trivial nor without large objects


def test_the_library_is_silent(capfd, caplog):
    caplog.set_level(0)
    measure(spec_of(3), coco_case(1)[1]).compute()
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
