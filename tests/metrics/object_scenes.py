"""Random scenes of true and found objects, and a metric fed with them."""

import numpy as np
import torch
from hypothesis import settings

from seglab import rle
from seglab.metrics.instances import InstanceScores
from seglab.types import Spec

IGNORE = 255
quick = settings(max_examples=30, deadline=None)


def spec_of(k, instances=True, mode="multiclass"):
    return Spec(classes=tuple(f"c{i}" for i in range(k)), mode=mode, ignore_index=IGNORE, instances=instances)


def some(masks, labels, scores=None, crowd=None, size=None, at=None):
    masks = np.asarray(masks, bool).reshape(-1, *(size or np.shape(masks)[-2:]))
    return rle.instances(rle.encode(masks), masks.shape[1:], labels, scores, crowd, at)


def rectangles(rng, count, size, largest):
    masks = np.zeros((count, *size), bool)
    for one in masks:
        h, w = rng.integers(1, np.minimum(size, largest) + 1)
        y, x = rng.integers(0, size[0] - h + 1), rng.integers(0, size[1] - w + 1)
        one[y : y + h, x : x + w] = True
    return masks


def shifted(rng, masks, far):
    moved = [np.roll(m, rng.integers(-far, far + 1, 2), (0, 1)) for m in masks]
    return np.stack(moved) if moved else masks


def apart(masks):
    """The masks without the pixels of earlier ones; those with none left are left out, and which are kept."""
    taken = np.cumsum(masks, 0) - masks > 0
    masks = masks & ~taken
    kept = masks.any((1, 2))
    return masks[kept], kept


def scene(rng, k, size, most, largest, crowds=True, void=True, overlap=True, ties=False, many=0):
    """found, truth and target of one image: objects anywhere, and what was found near some of them or nowhere."""
    true = rectangles(rng, rng.integers(0, most + 1), size, largest)
    labels = rng.integers(1, k, len(true))
    near = rng.random(len(true)) < 0.8
    lost = rectangles(rng, many or rng.integers(0, most // 2 + 1), size, largest)
    found = np.concatenate([shifted(rng, true[near], max(1, largest // 8)), lost])
    classes = np.concatenate([labels[near], rng.integers(1, k, len(lost))])
    wrong = rng.random(len(found)) < 0.1
    classes[wrong] = rng.integers(1, k, wrong.sum())
    if not overlap:
        true, kept = apart(true)
        labels = labels[kept]
        found, kept = apart(found)
        classes = classes[kept]
    scores = rng.random(len(found)) if not ties else rng.integers(0, 3, len(found)) / 2
    crowd = rng.random(len(true)) < (0.2 if crowds else 0)
    target = np.zeros(size, np.int64)
    if void and rng.random() < 0.6:
        target[rectangles(rng, 1, size, max(size))[0]] = IGNORE
    return some(found, classes, scores, size=size), some(true, labels, crowd=crowd, size=size), target


def measure(spec, images, segments=None, detections=100):
    metric = InstanceScores(spec, detections)
    add(metric, images, range(len(images)), segments)
    return metric


def add(metric, images, places, segments=None):
    for i in places:
        found, truth, target = images[i]
        parts = None if segments is None else [segments[i]]
        target = torch.from_numpy(target)[None]
        metric.update(torch.zeros_like(target), target, torch.tensor([i]), [found], [truth], parts)


def values_of(metric):
    return {k: v.item() for k, v in metric.compute().items()}


def tables_of(metric):
    return [values_of(metric), metric.per_class()]


def cases(seed, images=4, **options):
    rng = np.random.default_rng(seed)
    return [scene(rng, 3, (14, 17), 5, 9, **options) for _ in range(images)]
