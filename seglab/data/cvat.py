"""Outlines exported from CVAT as "CVAT for images 1.1": `data=cvat data.root=DIR`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from seglab.data.coco_layout import ALL
from seglab.data.coco_reading import Annotation, Content, Listed, shown
from seglab.data.layout import SPLITS
from seglab.data.outlined import Outlined, box, content, counts, ellipse
from seglab.data.paired import existing
from seglab.errors import DataError, nearest

log = logging.getLogger("seglab")

_NO_AREA = ("points", "polyline", "skeleton", "cuboid", "tag")
_HINT = "export it again as 'CVAT for images 1.1', with images"


class Cvat(Outlined):
    """annotations.xml with its images in `images`; splits are CVAT's subsets, or without these by `split`.

    Classes are the labels in the file's order. Polygons, boxes, ellipses and masks are objects; what has no area is left out.
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
        folder = existing(root, "cvat", "annotations.xml and images")
        file, images = folder / "annotations.xml", folder / "images"
        if not file.is_file() or not images.is_dir():
            raise DataError(
                f"{folder} has no {'annotations.xml' if images.is_dir() else 'folder images'}; {_HINT}, and unpack it there."
            )
        contents = _contents(file, images)
        places = dict.fromkeys(contents, images)
        super().__init__(folder.resolve().name, contents, places, False, classes, split, group, channels, mean, std)


def _contents(file: Path, images: Path) -> dict[str, Content]:
    try:
        tree = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{file} is not valid XML: {error}; {_HINT}.") from error
    if tree.tag != "annotations" or tree.find("track") is not None or tree.find("image") is None:
        raise DataError(f"{file} lists no image (tracks of a video are something else); {_HINT}.")
    names = list(dict.fromkeys(one.text or "" for one in tree.iterfind("meta//labels/label/name")))
    by_split: dict[str, list[Element]] = {}
    for image in tree.iterfind("image"):
        by_split.setdefault(_split(file, image), []).append(image)
    if ALL in by_split and len(by_split) > 1:
        raise DataError(f"{file}: some images have a subset and some have none; give every image one, or none.")
    left = Counter(shape.tag for image in tree.iterfind("image") for shape in image if shape.tag in _NO_AREA)
    if left:
        log.info("Shapes without an area are left out: %s.", ", ".join(f"{n} {tag}" for tag, n in sorted(left.items())))
    return {
        split: content(
            file,
            [_listed(image, images) for image in some],
            names,
            [
                _object(file, image, n, s, names, images)
                for image in some
                for n, s in enumerate(image, 1)
                if s.tag not in _NO_AREA
            ],
        )
        for split, some in by_split.items()
    }


def _split(file: Path, image: Element) -> str:
    subset = image.get("subset", "").lower()
    if subset in ("", "default"):
        return ALL
    found = next((split for split, names in SPLITS.items() if subset in names), None)
    if found is None:
        hint = nearest(subset, SPLITS)
        raise DataError(
            f"{file}: the subset '{shown(image.get('subset'))}' must be train, val or test.{hint if 'Did' in hint else ''}"
        )
    return found


def _listed(image: Element, images: Path) -> Listed:
    name, subset = image.get("name", ""), image.get("subset", "")
    if subset and (images / subset / name).is_file():  # where the export of a project puts it
        name = f"{subset}/{name}"
    if not (images / name).is_file():
        raise DataError(f"annotations.xml lists the image {shown(name)}, but {images} has no such file; {_HINT}.")
    return Listed(name, name, int(image.get("height", "0")) or None, int(image.get("width", "0")) or None)


def _object(file: Path, image: Element, number: int, shape: Element, names: list[str], images: Path) -> Annotation:
    where = f"{shown(image.get('name'))} {shape.tag} {number}"
    label = shape.get("label")
    if label not in names:
        raise DataError(f"{file}: {where} has the label {shown(label)}, which the file's list of labels lacks; {_HINT}.")
    listed = _listed(image, images)
    try:
        drawn = _drawn(shape, (listed.height, listed.width))
    except Exception as error:  # a hand-edited file may hold anything
        raise DataError(f"{file}: {where} cannot be read; draw it again, as a polygon.") from error
    return Annotation(where, listed.id, names.index(label), 0, drawn)


def _drawn(shape: Element, size: tuple[int, int]) -> Any:
    """A polygon, box, ellipse or mask as polygons or run lengths; any error where its numbers are wrong."""
    numbers = {key: float(shape.get(key, "0")) for key in ("xtl", "ytl", "xbr", "ybr", "cx", "cy", "rx", "ry", "rotation")}
    if shape.tag == "polygon":
        return [np.array([float(v) for pair in shape.attrib["points"].split(";") for v in pair.split(",")])]
    if shape.tag == "box":
        return [box(*(numbers[key] for key in ("xtl", "ytl", "xbr", "ybr", "rotation")))]
    if shape.tag == "ellipse":
        return [ellipse(*(numbers[key] for key in ("cx", "cy", "rx", "ry", "rotation")))]
    if shape.tag == "mask":
        left, top, width, height = (int(float(shape.attrib[key])) for key in ("left", "top", "width", "height"))
        runs = [int(v) for v in shape.attrib["rle"].split(",")]  # along the rows of its box, outside first
        part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        whole = np.zeros(size, bool)
        whole[top : top + height, left : left + width] = part
        return counts(whole)
    raise ValueError(shape.tag)
