"""Outlines that LabelMe saved, a JSON file beside each image: `data=labelme data.root=DIR`."""

from __future__ import annotations

import base64
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seglab.data.coco_layout import ALL
from seglab.data.coco_reading import Annotation, Listed, shown
from seglab.data.layout import SPLITS, read_json, subfolders
from seglab.data.outlined import Outlined, box, content, counts, ellipse
from seglab.data.paired import existing
from seglab.errors import DataError

log = logging.getLogger("seglab")

_NO_AREA = ("point", "line", "linestrip", "points")


class Labelme(Outlined):
    """JSON files below `root`, each naming its image; in folders {train,val,test}, or split by `split`.

    Classes are the labels, sorted by name. Polygons, rectangles, circles and masks are objects; shapes of one label and one
    group_id are one object; points and lines are left out, and so are images without a JSON file.
    """

    def __init__(
        self,
        root: str | Path | None,
        classes: list[str] | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        folder = existing(root, "labelme", "your images and LabelMe's JSON files")
        places = subfolders(folder, SPLITS) or {ALL: folder}
        files = {s: {file: read_json(file, dict) for file in sorted(place.rglob("*.json"))} for s, place in places.items()}
        for split_name, some in files.items():
            if not some:
                raise DataError(f"{places[split_name]} holds no .json file of LabelMe; correct data.root.")
        shapes = {s: [one for file, entry in some.items() for one in _shapes(file, entry)] for s, some in files.items()}
        _tell(shape for some in shapes.values() for _, shape in some)
        names = sorted({shape["label"] for some in shapes.values() for _, shape in some if shape["kind"] not in _NO_AREA})
        contents = {}
        for s, place in places.items():
            images = {file: _image(place, file, entry) for file, entry in files[s].items()}
            contents[s] = content(place, images.values(), names, _objects(images, files[s], shapes[s], names))
        super().__init__(folder.resolve().name, contents, places, False, classes, split, group, channels, mean, std)


def _image(root: Path, file: Path, entry: dict[str, Any]) -> Listed:
    path = entry.get("imagePath")
    if not isinstance(path, str) or not path:
        raise DataError(f"{file} names no image (imagePath); label it again, or remove the file.")
    name = os.path.relpath(os.path.normpath(file.parent / path.replace("\\", "/")), root).replace(os.sep, "/")
    if not (root / name).is_file():
        raise DataError(
            f"{file} names the image {shown(path)}, which does not exist beside it; add the image, or remove the file."
        )
    if name.startswith("../"):
        raise DataError(f"{file} names the image {shown(path)}, which lies outside of {root}; keep images below data.root.")
    return Listed(name, name, entry.get("imageHeight"), entry.get("imageWidth"))


def _shapes(file: Path, entry: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """The file's shapes, each with its kind and what to call it in messages."""
    shapes = entry.get("shapes")
    if not isinstance(shapes, list) or not all(
        isinstance(s, dict) and isinstance(s.get("label"), str) and s["label"] for s in shapes
    ):
        raise DataError(f"{file} has no list 'shapes' of shapes with a label; it is not LabelMe's, so remove it.")
    return [
        (file, {**shape, "kind": shape.get("shape_type") or "polygon", "where": f"{file.name} shape {n}"})
        for n, shape in enumerate(shapes, 1)
    ]


def _tell(shapes: Any) -> None:
    left = Counter(shape["kind"] for shape in shapes if shape["kind"] in _NO_AREA)
    if left:
        what = ", ".join(f"{count} of type {kind}" for kind, count in sorted(left.items()))
        log.info("Shapes without an area are left out: %s.", what)


def _objects(
    images: dict[Path, Listed], files: dict[Path, Any], shapes: list[tuple[Path, dict[str, Any]]], names: list[str]
) -> list[Annotation]:
    """One object a shape, or a group of shapes of one label."""
    objects: dict[Any, Annotation] = {}
    for n, (file, shape) in enumerate(shapes):
        if shape["kind"] in _NO_AREA:
            continue
        drawn = _drawn(file, shape, files[file])
        grouped = shape.get("group_id") is not None and isinstance(drawn, list)
        key = (file, shape["label"], str(shape["group_id"])) if grouped else n
        if key in objects:
            objects[key].segmentation.extend(drawn)
        else:
            objects[key] = Annotation(shape["where"], images[file].id, names.index(shape["label"]), 0, drawn)
    return list(objects.values())


def _drawn(file: Path, shape: dict[str, Any], entry: dict[str, Any]) -> Any:
    """The shape as polygons or run lengths."""
    where = f"{file}: {shape['where']}"
    try:
        points = np.array(shape["points"], np.float64).reshape(-1, 2)
        if shape["kind"] == "polygon":
            return [points.reshape(-1)]
        if shape["kind"] == "rectangle":
            (x1, y1), (x2, y2) = (points.min(0), points.max(0))
            return [box(x1, y1, x2, y2)]
        if shape["kind"] == "circle":
            (x, y), (ex, ey) = points
            return [ellipse(x, y, math.hypot(ex - x, ey - y), math.hypot(ex - x, ey - y))]
        if shape["kind"] == "mask":
            return _mask(shape["mask"], points[0], (int(entry["imageHeight"]), int(entry["imageWidth"])))
    except Exception as error:  # a hand-edited file may hold anything
        raise DataError(f"{where} ({shown(shape['kind'])}) cannot be read; draw it again.") from error
    raise DataError(f"{where} is of the unknown type {shown(shape['kind'])}; draw it as a polygon.")


def _mask(text: str, corner: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """LabelMe's PNG of the box around an object, put into its place."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        part = np.array(image) > 0
    left, top = (round(v) for v in corner.tolist())
    whole = np.zeros(size, bool)
    place = whole[top : top + part.shape[0], left : left + part.shape[1]]
    place[:] = part[: place.shape[0], : place.shape[1]]
    return counts(whole)
