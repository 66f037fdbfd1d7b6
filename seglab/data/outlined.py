"""Objects that other tools than COCO's outline: what `data=yolo`, `data=labelme` and `data=cvat` share."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seglab.data.coco import Coco
from seglab.data.coco_classes import classes_of
from seglab.data.coco_reading import Annotation, Content, Listed, shown
from seglab.data.coco_scan import Found, find_images
from seglab.data.folder_stats import both_or_neither
from seglab.errors import DataError

_CORNERS = 64  # of the polygon that stands for a circle or an ellipse


class Outlined(Coco):
    """A Coco whose objects come from other files: for each split (or coco_layout.ALL) a Content and its images' folder.

    Classes, drawing order, objects, splits and checks are those of Coco. With `relative`, coordinates are shares of the
    image's width and height.
    """

    def __init__(
        self,
        name: str,
        contents: Mapping[str, Content],
        folders: Mapping[str, Path],
        relative: bool = False,
        classes: list[str] | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        both_or_neither(mean, std)
        self.name, self.group = name, group
        names, colors = classes_of(list(contents.values()), classes)
        found = {s: find_images(one, [str(folders[s])]) for s, one in contents.items()}
        if relative:
            contents = {s: _in_pixels(one, found[s]) for s, one in contents.items()}
        self._take(contents, found, names, colors, split, channels, mean, std)


def content(file: Path, images: Iterable[Listed], names: Sequence[str], objects: Iterable[Annotation]) -> Content:
    """The Content of a file (or folder, for messages); an object's `category` is the position of its class in `names`."""
    listed = sorted(images, key=lambda one: one.name)
    if not listed:
        raise DataError(f"{file} lists no image; correct data.root.")
    for one, after in itertools.pairwise([*listed, Listed(None, "", None, None)]):
        if one.name == after.name:
            raise DataError(f"{file} lists the image {shown(one.name)} twice; keep one.")
        if os.path.isabs(one.name) or os.path.normpath(one.name).startswith(".."):
            raise DataError(f"{file} lists the image {shown(one.name)}, which leads outside of the data set.")
    by_image: dict[str, list[Annotation]] = {one.id: [] for one in listed}
    for drawn in objects:
        by_image[drawn.image].append(drawn)
    return Content(str(file), listed, {n: {"id": n, "name": name} for n, name in enumerate(names)}, by_image)


def box(x1: float, y1: float, x2: float, y2: float, degrees: float = 0) -> np.ndarray:
    """The polygon x y x y ... of a box, turned clockwise about its middle."""
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return _turned(corners, ((x1 + x2) / 2, (y1 + y2) / 2), degrees)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0) -> np.ndarray:
    """The polygon x y x y ... of an ellipse about (x, y), of the same area, turned clockwise."""
    angle = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    wider = math.sqrt(math.pi / (_CORNERS / 2 * math.sin(2 * math.pi / _CORNERS)))
    points = np.stack([x + wider * rx * np.cos(angle), y + wider * ry * np.sin(angle)], 1)
    return _turned(points, (x, y), degrees)


def counts(mask: np.ndarray) -> dict[str, object]:
    """A mask H W as COCO's uncompressed run lengths, for Annotation.segmentation."""
    flat = np.r_[False, np.asarray(mask, bool).ravel(order="F")]
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff(np.r_[0, edges, mask.size])}


def _turned(points: np.ndarray, middle: tuple[float, float], degrees: float) -> np.ndarray:
    if degrees:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        points = (points - middle) @ np.array([[c, s], [-s, c]]) + middle
    return points.reshape(-1)


def _in_pixels(one: Content, found: Sequence[Found]) -> Content:
    """Shares of width and height as pixels."""
    by_image = dict(one.annotations)
    for listed, image in zip(one.images, found, strict=True):
        size = (image.header.width, image.header.height)
        for_all = by_image[listed.id]
        by_image[listed.id] = [a._replace(segmentation=[p * np.resize(size, p.size) for p in a.segmentation]) for a in for_all]
    return one._replace(annotations=by_image)
