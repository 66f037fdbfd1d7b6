"""Polygons in the text files of YOLO's segmentation format: `data=yolo data.root=DIR`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from seglab.data.coco_layout import ALL
from seglab.data.coco_reading import Annotation, Content, Listed, shown
from seglab.data.layout import SPLITS
from seglab.data.outlined import Outlined, content
from seglab.data.paired import existing
from seglab.data.reading import SUFFIXES
from seglab.errors import DataError

log = logging.getLogger("seglab")


class Yolo(Outlined):
    """images/{train,val,test} with labels/..., {train,val,test}/{images,labels}, or images and labels, split by `split`.

    labels/NAME.txt has a line for each object of images/NAME.*: class x1 y1 x2 y2 ..., as shares of width and height; an
    image without such a file has no object. Names of classes are in data.yaml (any .yaml) or classes.txt.
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
        folder = existing(root, "yolo", "your images and labels")
        names = _names(folder)
        places = _places(folder)
        contents = {s: _content(images, labels, names) for s, (images, labels) in places.items()}
        images = {s: images for s, (images, _) in places.items()}
        super().__init__(folder.resolve().name, contents, images, True, classes, split, group, channels, mean, std)


def _places(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and labels of each split, or of ALL."""
    found: dict[str, tuple[Path, Path]] = {}
    inside = [p for base in (root, root / "images") if base.is_dir() for p in sorted(base.iterdir()) if p.is_dir()]
    for split, names in SPLITS.items():
        for place in inside:
            if place.name.lower().rstrip("0123456789") in names:  # train2017 is train
                two = (place / "images", place / "labels") if place.parent == root else (place, root / "labels" / place.name)
                if two[0].is_dir():
                    found.setdefault(split, two)
    found = found or ({ALL: (root / "images", root / "labels")} if (root / "images").is_dir() else {})
    missing = next((labels for _, labels in found.values() if not labels.is_dir()), None)
    if missing or not found:
        why = f"{missing} does not exist" if missing else f"{root} has no folder images, nor train/images"
        raise DataError(
            f"{why}; expected are images/train and labels/train, or train/images and train/labels (val, test likewise)."
        )
    return found


def _names(root: Path) -> list[str]:
    told = sorted([*root.glob("*.yaml"), *root.glob("*.yml"), *root.glob("classes.txt")])
    if len(told) != 1:
        there = f"it has {', '.join(p.name for p in told)}" if told else "it has none"
        raise DataError(f"{root} must have one file with the names of classes, data.yaml or classes.txt ({there}).")
    file = told[0]
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = text.split("\n") if file.suffix == ".txt" else yaml.safe_load(text)["names"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise DataError(f"{file} has no readable list 'names' of class names; complete it.") from error
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [{str(k): v for k, v in names.items()}[str(n)] for n in range(len(names))]
    names = (
        [name.strip() for name in names if str(name).strip()]
        if isinstance(names, list) and all(isinstance(n, str) for n in names)
        else []
    )
    if not names or len(set(names)) < len(names):
        raise DataError(f"{file}: 'names' must name every class, 0 and up, each by a text of its own.")
    return names


def _content(images: Path, labels: Path, names: Sequence[str]) -> Content:
    found = sorted(
        p.relative_to(images) for p in images.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    listed, objects, empty = [], [], 0
    for path in found:
        file = labels / path.with_suffix(".txt")
        listed.append(Listed(path.as_posix(), path.as_posix(), None, None))
        if file.is_file():
            objects += [_object(file, number, line, path.as_posix(), names) for number, line in _lines(file)]
        else:
            empty += 1
    stems = {path.with_suffix("") for path in found}
    lonely = [
        p
        for p in sorted(labels.rglob("*.txt"))
        if p.relative_to(labels).with_suffix("") not in stems and p.name != "classes.txt"
    ]
    if empty == len(found) or lonely:
        what = f"{lonely[0]} has no image in {images}" if lonely else f"no image of {images} has a text file in {labels}"
        raise DataError(f"{what}; the two must have the same name, without suffix.")
    if empty:
        log.info("%d of %d images in %s have no text file, so no object.", empty, len(found), os.fspath(images))
    return content(labels, listed, names, objects)


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as text; write it again.") from error
    return [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def _object(file: Path, number: int, line: str, image: str, names: Sequence[str]) -> Annotation:
    where = f"{file} line {number}"
    try:
        category, *values = [float(word) for word in line.split()]
    except ValueError as error:
        raise DataError(f"{where} holds '{shown(line)}'; a line is a class and coordinates, all numbers.") from error
    if category not in range(len(names)):
        raise DataError(
            f"{where} has the class {category:g}, but the classes that have names are 0..{len(names) - 1}; correct one of them."
        )
    if len(values) == 4:
        raise DataError(f"{where} is a box (4 numbers), but masks need outlines; export polygons.")
    if not all(-0.5 <= v <= 1.5 for v in values):
        raise DataError(f"{where} has coordinates outside of 0..1; they must be shares of the image's width and height.")
    return Annotation(f"{file.name} line {number}", image, int(category), 0, [np.array(values)])
