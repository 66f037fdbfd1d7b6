"""Objects on their image: each in a colour of its own, its box in the colour of its class, found ones beside true ones."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from seglab.errors import DataError
from seglab.rle import areas, overlaps, runs
from seglab.types import Color, Instances, Spec
from seglab.viz.colors import object_colors, spread
from seglab.viz.legend import Entry, length, rows, text
from seglab.viz.overlay import edges, striped, to_rgb
from seglab.viz.panel import TILE, room, sheet

SIDE = 4 * TILE // 3  # the longer side of a tile: three are as wide as the four of `panel`
CROWDED = 60  # with more objects than this, they are drawn without labels

_ALPHA = 0.45  # how much of its colour an object gets
_FEW = 12  # with more classes than this, the legend lists only those in the picture
_HIDDEN = 0.2  # a label covers no larger share of any box
_DARK, _LIGHT = (20, 22, 26), (255, 255, 255)


def object_panel(image: np.ndarray, truth: Instances, found: Instances, spec: Spec, title: str = "") -> np.ndarray:
    """Image, true objects and found ones side by side on white, H W 3 uint8, with a title line and a legend with counts.

    A found object has the colour of the true one that it covers (IoU >= 0.5). Larger images are shrunk to SIDE,
    smaller ones magnified to about SIDE by a whole factor without smoothing. DataError if the sizes differ.
    """
    rgb = to_rgb(image)
    height, width = rgb.shape[:2]
    ids = [_ids(rgb, objects) for objects in (truth, found)]
    shrink = max(height, width) / SIDE
    whole, skip = max(round(1 / shrink), 1), max(int(shrink / 2), 1)
    if whole > 1:
        rgb, *ids = (a.repeat(whole, 0).repeat(whole, 1) for a in (rgb, *ids))
    elif skip > 1:  # drawn at two to three times the final size, then averaged
        ids = [a[::skip, ::skip] for a in ids]
        rgb = cv2.resize(rgb, ids[0].shape[::-1], interpolation=cv2.INTER_AREA)
    palette, true = object_colors(spec), _picked(truth, spec)
    picked = true, _picked(found, spec, _partners(truth, found), true)
    line = max(1, round(shrink / skip))
    drawn = [rgb, *(_tinted(rgb, a, o, palette[p], line) for a, o, p in zip(ids, (truth, found), picked, strict=True))]
    if shrink > 1:
        size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        drawn = [cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in drawn]
    scale = whole / max(shrink, 1)
    _boxed(drawn[1], truth, spec, scale, 1, False)
    _boxed(drawn[2], found, spec, scale, 1, True)
    span = room(drawn[0].shape[1], 3)
    key = rows(_key(spec, truth, found), span, min(320, span))
    return sheet(dict(zip(("image", "truth", "found"), drawn, strict=True)), title, {0: key})


def paint(image: np.ndarray, objects: Instances, spec: Spec, scores: bool = True) -> np.ndarray:
    """The image at its own size with its objects, boxes and labels (with their `scores`, or the class alone), H W 3 uint8.

    Lines and letters grow with the image. DataError if the sizes differ.
    """
    rgb = to_rgb(image)
    line = max(1, round(max(rgb.shape[:2]) / SIDE))
    out = _tinted(rgb, _ids(rgb, objects), objects, object_colors(spec)[_picked(objects, spec)], line)
    return _boxed(out, objects, spec, 1, line, scores)


def _ids(rgb: np.ndarray, objects: Instances) -> np.ndarray:
    """Which object each pixel shows, n + 1 or 0, int32 H W: regions of many lie below all others, large below small ones."""
    height, width = objects.size
    if rgb.shape[:2] != objects.size:
        raise DataError(f"An image of {rgb.shape[0]}x{rgb.shape[1]} does not fit objects in one of {height}x{width}.")
    flat = np.zeros(width * height, np.int32)  # column by column, as the runs are
    size = areas(objects.rles, objects.size)
    for n in np.lexsort((-size, ~objects.crowd)):
        ends = np.cumsum(runs(objects.rles[n]))
        starts, lengths = ends[0:-1:2], np.diff(ends)[::2]
        before = np.cumsum(lengths) - lengths
        flat[np.arange(lengths.sum()) + np.repeat(starts - before, lengths)] = n + 1
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _partners(truth: Instances, found: Instances) -> np.ndarray:
    """For each found object the true one that it covers with IoU >= 0.5, or -1; of several found, the first has it."""
    partners = np.full(len(found.rles), -1)
    if not len(truth.rles) or not len(found.rles):
        return partners
    shared = overlaps(found.rles, truth.rles, truth.size)
    union = areas(found.rles, found.size)[:, None] + areas(truth.rles, truth.size) - shared
    fits = (shared >= 0.5 * union) & (shared > 0) & ~truth.crowd
    best = (fits * (shared / np.maximum(union, 1))).argmax(1)
    hit = np.flatnonzero(fits.any(1))
    _, earliest = np.unique(best[hit], return_index=True)
    partners[hit[earliest]] = best[hit[earliest]]
    return partners


def _picked(objects: Instances, spec: Spec, partners: np.ndarray | None = None, theirs: np.ndarray | None = None) -> np.ndarray:
    """The row of `object_colors` for each object: its partner's, else one that its neighbours do not have."""
    given = np.full(len(objects.rles), -1)
    if partners is not None and theirs is not None:
        given[partners >= 0] = theirs[partners[partners >= 0]]
    return spread(objects.boxes, max(4, max(objects.size) / 40), len(object_colors(spec)), given)


def _tinted(rgb: np.ndarray, ids: np.ndarray, objects: Instances, colors: np.ndarray, line: int) -> np.ndarray:
    """The picture with each object in its colour (N 3), outlined `line` pixels wide; regions of many striped grey."""
    out = rgb.copy()
    crowd = np.concatenate([[False], objects.crowd])[ids]
    inside = (ids > 0) & ~crowd
    own = colors[ids[inside] - 1].astype(np.float32)
    strength = np.where(edges(ids, line)[inside], np.float32(1), np.float32(_ALPHA))[:, None]
    out[inside] = np.rint(rgb[inside] * (1 - strength) + own * strength).astype(np.uint8)
    return striped(out, crowd)


def _boxed(tile: np.ndarray, objects: Instances, spec: Spec, scale: float, line: int, scores: bool) -> np.ndarray:
    """Draw boxes and labels into a tile in which a pixel of the image is `scale` pixels long; the tile."""
    height, width = tile.shape[:2]
    canvas = Image.fromarray(tile)
    draw = ImageDraw.Draw(canvas)
    boxes = np.clip(np.rint(objects.boxes * scale), 0, [width, height, width, height]).astype(int)
    shown = np.flatnonzero(~objects.crowd & (boxes[:, 2:] > boxes[:, :2]).all(1))
    for n in shown:
        x1, y1, x2, y2 = boxes[n].tolist()
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=_color(spec, objects.labels[n]), width=line)
    if len(shown) <= CROWDED:
        order = shown[np.argsort(-objects.scores[shown], kind="stable")]
        _label(draw, boxes[order], [_words(spec, objects, n, scores) for n in order], 11 * line)
    tile[:] = np.asarray(canvas)
    return tile


def _words(spec: Spec, objects: Instances, n: int, scores: bool) -> tuple[str, Color]:
    name = spec.classes[objects.labels[n]] if len(spec.classes) > 2 else ""
    return f"{name} {objects.scores[n]:.2f}".strip() if scores else name, _color(spec, objects.labels[n])


def _label(draw: ImageDraw.ImageDraw, boxes: np.ndarray, words: Sequence[tuple[str, Color]], font: int) -> None:
    """Write the words of each box (N 4) above it, else below or inside, in the colour given.

    Words larger than their box are left out, and those that would cover another label, or much of any object.
    """
    high, limits = font + 3, np.array(draw.im.size)
    taken = np.zeros((0, 4), int)
    for (x1, y1, x2, y2), (word, color) in zip(boxes.tolist(), words, strict=True):
        wide = length(word, font) + 5
        if not word or wide * high > (x2 - x1) * (y2 - y1):
            continue
        for x, y in ((x1, y1 - high), (x2 - wide, y1 - high), (x1, y2), (x2 - wide, y2), (x1, y1)):
            spot = np.array([x, y, x + wide, y + high])
            outside = (spot[:2] < 0).any() or (spot[2:] > limits).any()
            if outside or _covered(spot, taken).any() or (_covered(spot, boxes) > _HIDDEN).any():
                continue
            taken = np.vstack([taken, spot])
            draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=color)
            light = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]
            text(draw, (x + 3, y + high // 2), word, font, _DARK if light > 120 else _LIGHT, wide)
            break


def _covered(spot: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of each box (N 4) that lies in the spot (4)."""
    inside = np.minimum(spot[2:], boxes[:, 2:]) - np.maximum(spot[:2], boxes[:, :2])
    return inside.clip(0).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _color(spec: Spec, label: int) -> Color:
    red, green, blue = spec.colors[label]
    return int(red), int(green), int(blue)


def _key(spec: Spec, truth: Instances, found: Instances) -> list[Entry]:
    """The classes of things with their counts: all, or those in the picture where there are more than a few."""
    true, new = (np.bincount(o.labels[~o.crowd], minlength=spec.num_classes) for o in (truth, found))
    things = [k for k in range(1, spec.num_classes) if spec.num_classes <= _FEW or true[k] or new[k]]
    key: list[Entry] = [(f"{spec.classes[k]}: {true[k]} true, {new[k]} found", _color(spec, k)) for k in things]
    crowded = truth.crowd.any() or found.crowd.any()
    return [*key, ("a region of many, not counted", None)] if crowded else key
