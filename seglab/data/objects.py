"""The objects of a sample: maps of ids, in as many layers as overlaps need, with a class and a crowd flag for each id.

Layers of ids move through every geometric transform as masks do (nearest pixel), whatever the number of objects; a mask
for each object would be copied and warped once for each of hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seglab.types import Sample


class Objects(NamedTuple):
    """`ids` H W L int32: 0 none, else 1..N, each object whole in one layer; `labels` N int64 classes; `crowd` N bool."""

    ids: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


class Pair(NamedTuple):
    """What augmentation moves together: image H W C, mask H W (multilabel: H W K), and the objects where they are asked for."""

    image: np.ndarray
    mask: np.ndarray
    objects: Objects | None = None


def objects(sample: Sample, ignore_index: int) -> Objects:
    """The sample's objects with ids 1..N; where it has no `labels`, an object's class is the one most of its mask shows.

    An object all of whose pixels are ignored has class 0, the background, and so is none.
    """
    ids = sample["instances"]
    ids = ids[..., None] if ids.ndim == 2 else ids
    if "labels" in sample:
        labels = np.asarray(sample["labels"], np.int64)
        crowd = np.asarray(sample.get("crowd", np.zeros(len(labels))), bool)
        return Objects(ids.astype(np.int32), labels, crowd)
    found, inverse = np.unique(ids, return_inverse=True)
    inverse = inverse.reshape(ids.shape).astype(np.int32)
    numbered = inverse + 1 if not len(found) or found[0] != 0 else inverse
    labels = _majority(numbered, sample["mask"], int(numbered.max(initial=0)), ignore_index)
    return Objects(numbered, labels, np.zeros(len(labels), bool))


def _majority(ids: np.ndarray, mask: np.ndarray, count: int, ignore_index: int) -> np.ndarray:
    inside = (ids[..., 0] > 0) & (mask != ignore_index)
    classes = int(mask[inside].max(initial=0)) + 1
    votes = np.bincount(ids[..., 0][inside].astype(np.int64) * classes + mask[inside], minlength=(count + 1) * classes)
    return votes.reshape(-1, classes)[1 : count + 1].argmax(1).astype(np.int64)


def counted(held: Objects, classes: int) -> np.ndarray:
    """How many objects of each class the ids show, int64 (K,); crowds and the background are none."""
    there = np.flatnonzero(np.bincount(held.ids.ravel())[1:])  # several times faster than unique
    labels = held.labels[there[~held.crowd[there]]]
    return np.bincount(labels[labels > 0], minlength=classes)


def layered(masks: np.ndarray) -> np.ndarray:
    """Ids 1..N in layers, H W L int32, of N masks H W (bool N H W): each goes into the first layer where it finds room."""
    layers: list[np.ndarray] = []
    for number, mask in enumerate(masks, 1):
        layer = next((one for one in layers if not one[mask].any()), None)
        if layer is None:
            layer = np.zeros(masks.shape[1:], np.int32)
            layers.append(layer)
        layer[mask] = number
    return np.stack(layers, -1) if layers else np.zeros((*masks.shape[1:], 1), np.int32)


def merged(several: Sequence[Objects], owner: np.ndarray) -> Objects:
    """The objects of several samples where `owner` (H W) gives the k-th its pixels; their ids follow one another."""
    ids = np.zeros((*owner.shape, max(one.ids.shape[2] for one in several)), np.int32)
    before = 0
    for k, one in enumerate(several):
        depth = one.ids.shape[2]
        numbered = np.where(one.ids > 0, one.ids + before, 0)
        np.copyto(ids[..., :depth], numbered, where=(owner == k)[..., None])
        before += len(one.labels)
    labels, crowd = (np.concatenate([getattr(one, key) for one in several]) for key in ("labels", "crowd"))
    return Objects(ids, labels, crowd)
