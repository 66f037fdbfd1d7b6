"""How one field of cells is drawn: outlines as polygons, painted back to front, then seen through a microscope.

Three stains are painted into planes of a float32 array 3 H W (cytoplasm, nucleus, marker), mixed into the image's channels, and
degraded by haze, uneven light, defocus, shot and read noise. Every random number comes from the caller's generator.
"""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
from numpy.random import Generator

ROUND, SPINDLE = 1, 2
_SHIFT = 4  # polygon corners are given to OpenCV in 1/16 pixel
_TILE = 256
_TURN = 2 * math.pi


def draw(rng: Generator, height: int, width: int, channels: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One field: image H W C uint8, mask H W uint8 (0 background, 1 round, 2 spindle), instances H W uint16 (0 none).

    `count` cells are tried; one that finds no room is left out, so that crowded fields hold fewer.
    """
    stains = np.zeros((3, height, width), np.float32)
    instances = np.zeros((height, width), np.uint16)
    kinds = _paint_cells(rng, stains, instances, count)
    _paint_debris(rng, stains)
    return _expose(rng, stains, channels), kinds[instances], instances


def _paint_cells(rng: Generator, stains: np.ndarray, instances: np.ndarray, count: int) -> np.ndarray:
    """Paint up to `count` cells, later ones on top; returns the kind of each instance id, uint8 (id 0: background)."""
    height, width = instances.shape
    planes = stains.reshape(3, -1)
    kinds = [0]
    centres: list[tuple[float, float]] = []
    share = rng.uniform(0.35, 0.75)  # of round cells in this field
    for _ in range(count):
        kind = ROUND if rng.random() < share else SPINDLE
        angle = _TURN * rng.random()
        cos, sin = math.cos(angle), math.sin(angle)
        outline = (_round(rng) if kind == ROUND else _spindle(rng)) @ np.array([[cos, sin], [-sin, cos]])
        (left, top), (right, bottom) = outline.min(0).tolist(), outline.max(0).tolist()
        for _attempt in range(4):
            x, y = _place(rng, centres, height, width)
            # A window of whole pixels around the outline, cut at the image's border.
            x0, x1 = max(int(x + left) - 4, 0), min(int(x + right) + 5, width)
            y0, y1 = max(int(y + top) - 4, 0), min(int(y + bottom) + 5, height)
            body = _fill(outline + np.array((x - x0, y - y0)), y1 - y0, x1 - x0)
            below = instances[y0:y1, x0:x1]
            if not _has_room(body, below):
                continue
            if below.any():
                # The cell hides most of what is below, and a thin shadow around it keeps touching cells apart.
                hidden = np.maximum(cv2.GaussianBlur(body.astype(np.float32), (5, 5), 1.1), body)
                stains[:, y0:y1, x0:x1] *= 1 - np.float32(0.85) * hidden
            rows, cols = np.nonzero(body)
            below[rows, cols] = len(kinds)
            inside = (rows + y0) * width + (cols + x0)
            for plane, paint in zip(planes, _paint_cell(rng, body, rows, cols, kind, angle, (x - x0, y - y0)), strict=True):
                plane[inside] += paint
            kinds.append(kind)
            centres.append((x, y))
            break
    return np.array(kinds, np.uint8)


def _place(rng: Generator, centres: list[tuple[float, float]], height: int, width: int) -> tuple[float, float]:
    """A centre (x, y) inside the image: often beside an earlier cell, so that cells touch and overlap."""
    near, x, y, away, way = rng.random(5).tolist()
    if centres and near < 0.6:
        beside_x, beside_y = centres[int(x * len(centres))]
        away = 14 + 16 * away
        beside_x, beside_y = beside_x + away * math.cos(_TURN * way), beside_y + away * math.sin(_TURN * way)
        if 0 <= beside_x < width and 0 <= beside_y < height:
            return beside_x, beside_y
    return x * width, y * height


_AROUND = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_WAVES = np.concatenate([[np.cos(k * _AROUND), np.sin(k * _AROUND)] for k in (2, 3, 4, 5)])
_WAVE_SIZES = 0.08 / np.repeat([2, 3, 4, 5], 2)
_ALONG = np.linspace(-1, 1, 25)


def _round(rng: Generator) -> np.ndarray:
    """The outline of a round cell around the origin, N 2 (x, y): an ellipse, up to 1.45 times as long as wide, with dents."""
    radius = rng.uniform(8.5, 15) * (1 + (rng.standard_normal(8) * _WAVE_SIZES) @ _WAVES)
    long = np.sqrt(rng.uniform(1, 1.45))
    return np.stack([np.cos(_AROUND) * radius * long, np.sin(_AROUND) * radius / long], 1)


def _spindle(rng: Generator) -> np.ndarray:
    """The outline of a spindle cell around the origin, N 2 (x, y): tapered, bent, about 2 to 5 times as long as wide."""
    s = _ALONG
    half = rng.uniform(16, 34)
    wide = half / rng.uniform(2.2, 4.6) + 1
    taper = (1 - np.abs(s) ** rng.uniform(1.2, 2.2)) ** rng.uniform(0.9, 1.9)
    wobble = 1 + 0.15 * np.sin(rng.uniform(2, 6, (2, 1)) * s + rng.uniform(0, 2 * np.pi, (2, 1)))
    skew = s - rng.uniform(-0.3, 0.3) * (1 - s * s)  # the nucleus does not always sit in the middle
    axis = half * (rng.normal(0, 0.2) * (s * s - 0.3) + rng.normal(0, 0.12) * s**3)
    upper, lower = axis + wide * taper * wobble[0] + 0.9, axis - wide * taper * wobble[1] - 0.9
    return np.concatenate([np.stack([half * skew, upper], 1), np.stack([half * skew, lower], 1)[::-1]])


def _fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels inside an outline N 2 (x, y), as uint8 H W of 0 and 1."""
    patch = np.zeros((height, width), np.uint8)
    cv2.fillPoly(patch, [np.rint(points * (1 << _SHIFT)).astype(np.int32)], (1,), cv2.LINE_8, _SHIFT)
    return patch


def _has_room(body: np.ndarray, below: np.ndarray) -> bool:
    """Whether at most a third of the cell lies on others, and hides at most 40 % of what the window shows of each."""
    area = cv2.countNonZero(body)
    hit = np.bincount(below[body > 0], minlength=1)
    covered = area - hit[0]
    if area < 30 or covered > area / 3:
        return False
    if not covered:
        return True
    seen = np.bincount(below.ravel(), minlength=len(hit))
    return bool((hit[1:] <= 0.4 * seen[1 : len(hit)]).all())


def _paint_cell(
    rng: Generator, body: np.ndarray, rows: np.ndarray, cols: np.ndarray, kind: int, angle: float, centre: tuple[float, float]
) -> np.ndarray:
    """The stains 3 N of a cell's N pixels (rows, cols) in its window."""
    depth = cv2.distanceTransform(body, cv2.DIST_L2, 3)
    deepest = max(float(depth.max()), 1.0)
    dome = np.sqrt(depth[rows, cols] / np.float32(deepest))
    grain, fibre = _texture(rng, angle, rows, cols)
    blend = np.float32(rng.uniform(0.0, 0.4) if kind == SPINDLE else rng.uniform(0.6, 1.0))
    texture = blend * grain + (1 - blend) * fibre

    long = math.sqrt(rng.uniform(1.0, 1.35) if kind == ROUND else rng.uniform(1.5, 2.3))
    across = 16 * deepest * rng.uniform(0.42, 0.6)
    spot = [round(16 * (at + 0.8 * rng.standard_normal())) for at in centre]
    disc = np.zeros(body.shape, np.uint8)
    axes = (round(across * long), round(across / long))
    cv2.ellipse(disc, spot, axes, math.degrees(angle), 0, 360, (255,), cv2.FILLED, cv2.LINE_AA, _SHIFT)
    nucleus = disc[rows, cols] / np.float32(255)

    # Brightness is drawn alike for both kinds, over a factor of about six: it does not tell them apart.
    glow = np.float32(math.exp(0.42 * rng.standard_normal()))
    stain = np.empty((3, len(rows)), np.float32)
    stain[0] = (0.3 + 0.42 * dome) * (1 + 0.22 * texture) * (1 - 0.6 * nucleus)
    stain[1] = rng.uniform(1.0, 1.7) * nucleus * (0.85 + 0.16 * grain)
    stain[2] = rng.uniform(0.4, 1.0) * (0.25 + 0.5 * dome) * np.maximum(0.4 + 0.75 * texture, 0) * (1 - 0.6 * nucleus)
    return stain * glow


@cache
def _tile() -> np.ndarray:
    """Two textures that repeat at their borders, 256 256 2 float32, of unit deviation: blotchy grain, fibres along x."""
    noise = np.random.Generator(np.random.Philox(7)).standard_normal((_TILE, _TILE), np.float32)
    noise = np.pad(noise, 32, mode="wrap")

    def band(fine: tuple[float, float], coarse: tuple[float, float]) -> np.ndarray:
        smooth = [cv2.GaussianBlur(noise, (0, 0), x, sigmaY=y)[32:-32, 32:-32] for x, y in (fine, coarse)]
        difference = smooth[0] - 0.7 * smooth[1]
        return (difference - difference.mean()) / difference.std()

    return np.stack([band((1.2, 1.2), (2.8, 2.8)), band((7.0, 0.8), (7.0, 2.2))], -1)


def _texture(rng: Generator, angle: float, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Grain and fibre at the pixels (rows, cols), 2 N float32, turned by `angle`, from a random place of the tile."""
    cos, sin = math.cos(angle), math.sin(angle)
    x0, y0 = _TILE * rng.random(2)
    x = (cols * cos + rows * sin + x0).astype(np.intp) & (_TILE - 1)
    y = (rows * cos - cols * sin + y0).astype(np.intp) & (_TILE - 1)
    return _tile()[y, x].T


def _paint_debris(rng: Generator, stains: np.ndarray) -> None:
    """Add bright specks of a few pixels and a rare thread of dust; they belong to the background."""
    height, width = stains.shape[1:]
    layer = np.zeros((height, width), np.float32)
    for _ in range(rng.poisson(14 * height * width / 65536)):
        spot = tuple(int(v) for v in rng.uniform(0, 16, 2) * (width, height))
        axes = tuple(int(v) for v in 16 * np.exp(rng.normal(0.1, 0.45, 2)))
        cv2.ellipse(layer, spot, axes, rng.uniform(0, 180), 0, 360, (rng.uniform(0.3, 1.6),), cv2.FILLED, cv2.LINE_8, _SHIFT)
    if rng.random() < 0.3:
        t = np.linspace(0, 1, 12)[:, None]
        line = rng.uniform(0, 1, 2) * (width, height) + t * rng.normal(0, 60, 2) + t * t * rng.normal(0, 40, 2)
        cv2.polylines(layer, [np.round(line * 16).astype(np.int32)], False, (rng.uniform(0.3, 0.8),), 1, cv2.LINE_8, _SHIFT)
    stains += rng.uniform(0.1, 1.0, (3, 1, 1)).astype(np.float32) * layer


def _haze(rng: Generator, height: int, width: int) -> np.ndarray:
    """Light of cells far out of focus and of the medium, 3 H W float32, smooth over tens of pixels."""
    h, w = -(-height // 4), -(-width // 4)
    layer = np.zeros((h, w), np.float32)
    for _ in range(rng.poisson(6 * height * width / 65536)):
        spot = tuple(int(v) for v in rng.uniform(0, 16, 2) * (w, h))
        axes = tuple(int(v) for v in 16 * rng.uniform(2.0, 7.5, 2))
        cv2.ellipse(layer, spot, axes, rng.uniform(0, 180), 0, 360, (rng.uniform(0.15, 0.65),), cv2.FILLED, cv2.LINE_8, _SHIFT)
    blurred = cv2.GaussianBlur(layer, (0, 0), rng.uniform(1.8, 3.5))
    cloud = cv2.resize(rng.uniform(0, 0.3, (3, 3)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    smooth = cv2.resize(np.maximum(blurred + cloud, 0), (width, height), interpolation=cv2.INTER_LINEAR)
    return rng.uniform((0.6, 0.3, 0.3), (1.0, 0.8, 0.8)).astype(np.float32)[:, None, None] * smooth


def _expose(rng: Generator, stains: np.ndarray, channels: int) -> np.ndarray:
    """The stains 3 H W as the camera sees them, uint8 H W C."""
    height, width = stains.shape[1:]
    light = cv2.resize(rng.uniform(0.4, 1.1, (3, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    if channels == 1:
        mix = rng.uniform((0.7, 0.3, 0.4), (1.0, 0.6, 0.8))[None]
    else:  # rows: red, green, blue; columns: stain. A filter lets some light of the other stains through.
        mix = np.array([[0.10, 0.14, 0.95], [0.85, 0.20, 0.16], [0.12, 1.0, 0.20]]) * rng.uniform(0.6, 1.1, (3, 3))
        if rng.random() < 0.35:
            mix = mix[[1, 0, 2]]
    lit = (stains + _haze(rng, height, width)) * np.maximum(light, np.float32(0.25))
    scene: np.ndarray = cv2.transform(cv2.merge(list(lit)), mix)
    scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.55, 1.15)).reshape(height, width, channels)
    scene = np.maximum(scene, 0) + np.float32(rng.uniform(0.02, 0.08))
    # Shot noise grows with the root of the light (normal approximation), read noise does not.
    photons = 40 * 6.5 ** rng.random()  # at intensity 1
    noise = scene * np.float32(1 / photons)
    noise += np.float32(rng.uniform(0.006, 0.02) ** 2)
    scene += np.sqrt(noise, out=noise) * rng.standard_normal(scene.shape, np.float32)
    bright = float(np.quantile(scene[::8, ::8], 0.99))
    scene *= rng.uniform(170, 240) / max(bright, 0.2)
    return np.clip(scene, 0, 255, out=scene).astype(np.uint8)
