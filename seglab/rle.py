"""Masks of objects as run lengths in COCO's compressed form: a few hundred bytes an object, compared without decoding.

The library is faster-coco-eval, whose strings are those of pycocotools. Masks are N H W, numpy, of bool or 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seglab.types import Instances

_CHUNK = 1 << 26  # bytes of masks that are laid out at once


def encode(masks: np.ndarray) -> list[bytes]:
    """The run lengths of N masks, N H W."""
    from faster_coco_eval import mask as api

    step = max(1, _CHUNK // max(1, masks[0].size if len(masks) else 1))
    found = []
    for at in range(0, len(masks), step):
        columns = np.asfortranarray(masks[at : at + step].transpose(1, 2, 0).astype(np.uint8))
        found += [one["counts"] for one in api.encode(columns)]
    return found


def encode_ids(ids: np.ndarray, values: Sequence[int]) -> list[bytes]:
    """The run lengths of the objects that have these values in a map of ids, H W (or H W L: whole in one of L layers).

    One pass over the map, however many objects it has; an object that is not in it is an empty mask.
    """
    from faster_coco_eval import mask as api

    layers = ids[..., None] if ids.ndim == 2 else ids
    (height, width), total = ids.shape[:2], ids.shape[0] * ids.shape[1]
    runs: dict[int, list[int]] = {}
    for layer in np.moveaxis(layers, -1, 0):
        runs |= _runs_of(layer, set(values))
    objects = [{"size": [height, width], "counts": runs.get(int(value), [total])} for value in values]
    return [one["counts"] for one in api.frPyObjects(objects, height, width)] if objects else []


def _runs_of(layer: np.ndarray, wanted: set[int]) -> dict[int, list[int]]:
    """{id: pixels outside, inside, outside ... it} down the columns, as COCO counts them."""
    flat = layer.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=len(flat))
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    found, first = np.unique(values[order], return_index=True)
    runs = {}
    for value, some in zip(found.tolist(), np.split(order, first[1:]), strict=True):
        if value in wanted:
            begin, length = starts[some], lengths[some]
            end = np.concatenate([[0], begin + length])
            counts = np.stack([begin - end[:-1], length], 1).ravel().tolist()
            runs[value] = counts + ([int(len(flat) - end[-1])] if end[-1] < len(flat) else [])
    return runs


def runs(rle: bytes) -> np.ndarray:
    """Lengths of the runs of 0 and 1 in turn, down the columns, int64: five bits a byte, lowest first.

    Read here, because the library only lays out whole masks: for hundreds of objects in a large image that takes seconds.
    """
    code = np.frombuffer(rle, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(code & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = 5 * (np.arange(len(code)) - np.repeat(first, last - first + 1))
    values = np.add.reduceat((code & 31) << place, first)
    values -= np.where(code[last] & 16, np.int64(1) << (place[last] + 5), 0)  # two's complement
    for at in (1, 2):  # from the fourth on, what is written is the difference to the one two places before
        values[at::2] = np.cumsum(values[at::2])
    return values


def decode(rles: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """The masks, bool N H W."""
    from faster_coco_eval import mask as api

    if not rles:
        return np.zeros((0, *size), bool)
    return np.ascontiguousarray(api.decode(_objects(rles, size)).transpose(2, 0, 1)).astype(bool)


def areas(rles: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """Pixels of each, int64 N."""
    from faster_coco_eval import mask as api

    return np.asarray(api.area(_objects(rles, size)) if rles else [], np.int64)


def boxes(rles: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """x1 y1 x2 y2 of each, float64 N 4: the outer edges of its pixels; zeros for an empty mask."""
    from faster_coco_eval import mask as api

    if not rles:
        return np.zeros((0, 4))
    x, y, width, height = np.asarray(api.toBbox(_objects(rles, size)), np.float64).reshape(-1, 4).T
    return np.stack([x, y, x + width, y + height], 1)


def overlaps(a: Sequence[bytes], b: Sequence[bytes], size: tuple[int, int]) -> np.ndarray:
    """Pixels that each of a shares with each of b, int64 (len(a), len(b))."""
    from faster_coco_eval import mask as api

    if not a or not b:
        return np.zeros((len(a), len(b)), np.int64)
    # Against a crowd the library divides by the first mask's own area, so that the product is a whole number again.
    share = np.asarray(api.iou(_objects(a, size), _objects(b, size), [1] * len(b)))
    return np.rint(share * areas(a, size)[:, None]).astype(np.int64)


def instances(
    rles: list[bytes], size: tuple[int, int], labels: Any, scores: Any = None, crowd: Any = None, at: Any = None
) -> Instances:
    """Instances from their run lengths; boxes follow from the masks unless they are given (`at`)."""
    count = len(rles)
    return Instances(
        (int(size[0]), int(size[1])),
        list(rles),
        np.asarray(labels, np.int64).reshape(count),
        np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(count),
        boxes(rles, size) if at is None else np.asarray(at, np.float64).reshape(count, 4),
        np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool).reshape(count),
    )


def _objects(rles: Sequence[bytes], size: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"size": [int(size[0]), int(size[1])], "counts": counts} for counts in rles]
