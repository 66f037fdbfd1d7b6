"""One picture that shows a prediction beside its truth: image, truth, prediction, errors, with captions and a legend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from seglab.errors import DataError
from seglab.types import Spec
from seglab.viz.colors import UNKNOWN_COLOR, codes
from seglab.viz.legend import ROW, Entry, Placed, legend, rows, text
from seglab.viz.overlay import error_key, error_map, overlay, to_rgb

TILES = ("image", "truth", "prediction", "errors")
TILE = 480  # a larger image is shrunk to this longer side
SMALL = 256  # a smaller one is magnified by a whole factor to at least this longer side
MANY = 60  # with more classes than this, the legend lists only those in the picture

_PAPER, _INK, _QUIET = (255, 255, 255), (28, 30, 34), (110, 115, 124)
_MARGIN, _GAP, _COLUMN = 20, 12, 104


def panel(image: np.ndarray, truth: np.ndarray, pred: np.ndarray, spec: Spec, title: str = "") -> np.ndarray:
    """Image, truth, prediction and errors side by side on white, H W 3 uint8, with a title line and a legend.

    `image` is H W C (see `to_rgb`), `truth` and `pred` as in a Sample. Tiles are at most TILE pixels long; images below
    SMALL are magnified without smoothing. DataError if the sizes differ.
    """
    drawn = tiles(image, truth, pred, spec)
    width = drawn[0].shape[1]
    classes = rows(_classes(spec, truth, pred), room(width, 3))
    ignored: list[Entry] = [("ignored", None)] if (np.asarray(truth) == spec.ignore_index).any() else []
    errors = rows([*error_key(spec), *ignored], room(width, 1))
    return sheet(dict(zip(TILES, drawn, strict=True)), title, {0: classes, 3: errors})


def room(width: int, tiles: int) -> int:
    """Pixels from the left edge of a tile of `width` to the right edge of the last of so many, side by side."""
    # A narrow image still leaves room for its caption.
    return tiles * (max(width, _COLUMN) + _GAP) - _GAP


def sheet(tiles: Mapping[str, np.ndarray], title: str, keys: Mapping[int, list[list[Placed]]]) -> np.ndarray:
    """Tiles of one size side by side on white, H W 3 uint8: captions above them, legends below them.

    `keys` are the legends, each by the number of the tile under which it begins.
    """
    height, width = next(iter(tiles.values())).shape[:2]
    step, full = room(width, 1) + _GAP, room(width, len(tiles))
    top = _MARGIN + (30 if title else 0) + 20
    foot = top + height + 14
    bottom = foot + ROW * max(map(len, keys.values())) + _MARGIN - 6
    canvas = Image.new("RGB", (full + 2 * _MARGIN, bottom), _PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        text(draw, (_MARGIN, _MARGIN + 8), title, 16, _INK, full)
    for i, (name, tile) in enumerate(tiles.items()):
        x = _MARGIN + i * step
        text(draw, (x, top - 12), name, 13, _QUIET, step - _GAP)
        canvas.paste(Image.fromarray(tile), (x, top))
    for i, key in keys.items():
        legend(draw, key, _MARGIN + i * step, foot)
    return np.asarray(canvas).copy()


def save(path: str | Path, array: np.ndarray) -> None:
    """Write H W 3 or H W uint8 (H W uint16 as PNG) by the suffix, below new folders if need be; whole or not at all.

    DataError for other suffixes.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise DataError(f"{path} cannot be written: a picture's name ends in .png, .jpg or .jpeg.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        picture = Image.fromarray(array)
        if suffix == ".png":
            picture.save(part, "PNG")
        else:
            picture.save(part, "JPEG", quality=92, subsampling=0)  # full colour resolution: thin coloured lines stay crisp
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def tiles(image: np.ndarray, truth: np.ndarray, pred: np.ndarray, spec: Spec) -> list[np.ndarray]:
    """The four pictures named in TILES at their final size; small ones are magnified first, so that lines stay thin."""
    rgb, truth, pred = to_rgb(image), np.asarray(truth), np.asarray(pred)
    longer = max(rgb.shape[:2])
    shrink = max(longer / TILE, 1.0)
    whole = -(-SMALL // longer)
    skip = max(int(shrink / 2), 1)
    if whole > 1:
        rgb, truth, pred = (a.repeat(whole, 0).repeat(whole, 1) for a in (rgb, truth, pred))
    elif skip > 1 and rgb.shape[:2] == truth.shape[:2] == pred.shape[:2]:
        # Drawn at two to three times the final size, then averaged: as smooth as from every pixel, in a fraction of the time.
        truth, pred = truth[::skip, ::skip], pred[::skip, ::skip]
        rgb = cv2.resize(rgb, (truth.shape[1], truth.shape[0]), interpolation=cv2.INTER_AREA)
    line = max(1, round(shrink / skip))
    drawn = [rgb, *(overlay(rgb, mask, spec, 0.6, line) for mask in (truth, pred)), error_map(pred, truth, spec, rgb)]
    if shrink == 1:
        return drawn
    size = tuple(max(1, round(side / longer * TILE)) for side in np.shape(image)[1::-1])
    return [cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in drawn]


def _classes(spec: Spec, truth: np.ndarray, pred: np.ndarray) -> list[Entry]:
    """Names and colours for the legend: all classes, or those in the picture where there are many."""
    k = spec.num_classes
    seen = np.bincount(np.concatenate([codes(mask, spec).ravel() for mask in (truth, pred)]), minlength=k + 3)
    pairs = enumerate(zip(spec.classes, spec.colors, strict=True))
    names: list[Entry] = [(name, color) for i, (name, color) in pairs if k <= MANY or seen[i]]
    return [*names, ("unknown id", UNKNOWN_COLOR)] if seen[k + 1] else names
