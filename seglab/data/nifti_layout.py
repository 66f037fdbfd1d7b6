"""Find NIfTI volumes and their labels: in the layouts of data=folder, and in that of nnU-Net and of the Decathlon."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seglab.data.folder_classes import Told, told_classes
from seglab.data.layout import Pair, find_pairs, hashed_split, listed_split, read_json
from seglab.data.nifti_reading import SUFFIXES
from seglab.errors import DataError

log = logging.getLogger("seglab")
_CHANNEL = re.compile(r"_(\d{4})$")  # nnU-Net: CASE_0000.nii.gz is the first channel of CASE
_TRAIN, _TEST = ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")


def find_volumes(root: Path, fractions: Sequence[float], group: str | None) -> dict[str, list[Pair]]:
    """The pairs of train, val and test. In nnU-Net's layout labelsTs, if there are any, is test; the rest is shared out."""
    if not (root / _TRAIN[0]).is_dir() or not (root / _TRAIN[1]).is_dir():
        return find_pairs(root, fractions, group, pair)
    cases, file = pair(root / _TRAIN[0], root / _TRAIN[1]), root / "split.json"
    if file.is_file():
        return listed_split(cases, file)
    if not (root / _TEST[1]).is_dir() or not any((root / _TEST[1]).iterdir()):
        return hashed_split(cases, fractions, group)
    known = fractions[0] + fractions[1]
    split = hashed_split(cases, [fractions[0] / known, fractions[1] / known, 0.0] if known > 0 else fractions, group)
    return {**split, "test": pair(root / _TEST[0], root / _TEST[1])}


def pair(images: Path, masks: Path) -> list[Pair]:
    """Images and masks of equal name, sorted; `image` is the first file of a case that has a file for each channel."""
    pictures, labels = _by_name(images), _by_name(masks)
    for found, folder in ((pictures, images), (labels, masks)):
        if not found:
            raise DataError(f"{folder} holds no {' or '.join(SUFFIXES)} file; put the files there or correct data.root.")
    if not set(pictures) & set(labels):  # names with a channel, unless they are those of the masks too
        pictures = {_CHANNEL.sub("", name): path for name, path in sorted(pictures.items(), reverse=True)}
    for mine, others, kind in ((pictures, labels, "mask"), (labels, pictures, "image")):
        lonely = sorted(set(mine) - set(others))
        if lonely:
            more = f" (nor have {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            example = os.path.basename(min(others.values()))
            raise DataError(
                f"{mine[lonely[0]]} has no {kind}{more}, where names look like {example}; add the {kind} or remove the file."
            )
    return [Pair(name, pictures[name], labels[name]) for name in sorted(pictures)]


def channels(one: Pair) -> list[str]:
    """The files of a case, one of each channel in order; DataError where one is missing."""
    folder, name = os.path.split(one.image)
    stem = _stem(name)
    found = _CHANNEL.search(stem)
    if found is None or stem == one.id.rsplit("/", 1)[-1]:
        return [one.image]
    case = re.compile(re.escape(stem[: found.start()]) + r"_(\d{4})(\.nii|\.nii\.gz)$", re.IGNORECASE)
    files = {int(match[1]): os.path.join(folder, other) for other in os.listdir(folder) if (match := case.match(other))}
    missing = next((n for n in range(len(files)) if n not in files), None)
    if missing is not None:
        raise DataError(f"{one.image} is one of {len(files)} channels, but there is none numbered {missing:04d}; add the file.")
    return [files[n] for n in sorted(files)]


def told(root: Path, classes: Sequence[str] | None, ignore_index: int | None, colors: list | None) -> Told:
    """What the settings and classes.json say, else the labels of dataset.json."""
    found, file = told_classes(root, classes, ignore_index, colors), root / "dataset.json"
    if found.classes is not None or not file.is_file():
        return found
    names, ignore = _labels(read_json(file, dict).get("labels"), str(file))
    return told_classes(root, names, ignore if ignore_index is None else ignore_index, colors)


def _labels(table: Any, file: str) -> tuple[list[str], int | None]:
    """Names in the order of their numbers, and the number of "ignore"; of {"0": "name"} or {"name": 0}."""
    wrong = DataError(
        f"{file}: 'labels' must give each of the numbers 0, 1, 2 ... one name; or name the classes by data.classes."
    )
    if not isinstance(table, dict) or not table:
        raise wrong
    if all(isinstance(key, str) and key.isdigit() and isinstance(name, str) for key, name in table.items()):
        by_number = {int(key): name for key, name in table.items()}
    elif all(isinstance(value, int) and not isinstance(value, bool) for value in table.values()):
        by_number = {value: name for name, value in table.items()}
    else:
        raise wrong  # nnU-Net's regions are lists of numbers
    ignore = next((number for number, name in by_number.items() if name == "ignore"), None)
    by_number = {number: name for number, name in by_number.items() if number != ignore}
    if sorted(by_number) != list(range(len(by_number))):
        raise wrong
    return [by_number[number] for number in sorted(by_number)], ignore


def _stem(name: str) -> str:
    low = name.lower()
    return name[: -len(".nii.gz")] if low.endswith(".nii.gz") else name[: -len(".nii")]


def _by_name(folder: Path) -> dict[str, str]:
    """{relative name without suffix: path} of all volumes below a folder; DataError for two of one name."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        for name in sorted(files):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            key = _stem(name) if inside == "." else f"{inside}/{_stem(name)}"
            path = os.path.join(place, name)
            if key in found:
                raise DataError(f"{found[key]} and {path} have the same name, so their partner is in doubt; remove one.")
            found[key] = path
    return found
