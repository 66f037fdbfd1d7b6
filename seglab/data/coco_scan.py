"""The quick pass over a COCO data set: where each image lies, its header, and its objects as run lengths."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seglab.data.coco_masks import run_length
from seglab.data.coco_reading import Annotation, Content, Listed, shown
from seglab.data.folder_scan import even_sample, in_threads
from seglab.data.reading import WRONG_TYPE, Header, read_header
from seglab.errors import DataError
from seglab.rle import areas

log = logging.getLogger("seglab")

_CHUNK = 32
_SHORT = 24  # a mask without pixels is a single run, in few bytes; measuring all would take longer than drawing them
_PROBES = 20  # images that tell in which folder to look first


class Found(NamedTuple):
    """An image on the disk: its path, the same with links followed, its bytes and its header."""

    path: str
    real: str
    bytes: int
    header: Header


class Item(NamedTuple):
    """An image with its objects, all that stays of the JSON: run lengths, classes (N int64) and crowd flags (N bool)."""

    id: str
    found: Found
    rles: list[bytes]
    labels: np.ndarray
    crowd: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pixels as stored."""
        return self.found.header.height, self.found.header.width


def find_images(content: Content, folders: Sequence[str]) -> list[Found]:
    """Every listed image, in threads for slow disks; DataError for one that is missing, damaged or of another size."""
    probes = [one.name for one in even_sample(content.images, _PROBES)]
    likely = sorted(folders, key=lambda d: -sum(os.path.isfile(os.path.join(d, name)) for name in probes))
    chunks = _chunks(content.images)
    done = in_threads(
        lambda some: [_find(one, likely, content.file) for one in some], chunks, "Reading headers", len(content.images)
    )
    return [one for some in done for one in some]


def compact(content: Content, found: Sequence[Found], labels: dict[Any, int]) -> list[Item]:
    """The Items of a file. Objects whose category has the label 0 are left out, and so are those without a pixel."""
    empty: list[Any] = []
    work = _chunks(list(zip(content.images, found, strict=True)))
    count = sum(map(len, content.annotations.values()))
    done = in_threads(
        lambda some: [_item(listed, one, content, labels) for listed, one in some], work, f"Reading {count} objects", count // 8
    )
    items: list[Item] = []
    for item, lost in (one for some in done for one in some):
        items.append(item)
        empty += lost
    if empty:
        log.warning(
            "%s: %d objects have no pixel inside of their image and are left out; the first is annotation %s.",
            content.file, len(empty), shown(empty[0]),
        )  # fmt: skip
    return items


def distinct(groups: Iterable[tuple[Content, Sequence[Found]]]) -> None:
    """DataError if two entries, of one file or of two, are the same image: it would be trained on and tested on."""
    seen: dict[str, str] = {}
    for content, found in groups:
        for one in found:
            if one.real in seen:
                where = f"{seen[one.real]} and {content.file}" if seen[one.real] != content.file else f"{content.file} twice"
                raise DataError(f"{one.path} is listed in {where}; keep each image in one place.")
            seen[one.real] = content.file


def without_suffix(names: Sequence[str]) -> list[str]:
    """The names without suffix, or as they are if two would then be the same."""
    stems = [posixpath.splitext(name)[0] for name in names]
    return stems if len(set(stems)) == len(stems) else list(names)


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]


def _find(listed: Listed, folders: Sequence[str], file: str) -> Found:
    places = (os.path.join(folder, listed.name) for folder in folders)
    path = next((path for path in places if os.path.isfile(path)), None)
    if path is None:
        raise DataError(
            f"{file} lists the image {shown(listed.name)}, but it is in none of {', '.join(folders)}; add the file, or name "
            "its folder by data.images."
        )
    try:
        header = read_header(path)
    except DataError as error:
        entry = f"remove image {shown(listed.id)} from {file}"
        raise DataError(str(error).replace("remove it together with its partner", entry)) from error
    if not header.dtype.startswith(("uint8", "uint16", "float")):
        raise DataError(WRONG_TYPE.format(path, header.dtype))
    size = (header.height, header.width)
    told = tuple(real if given is None else given for given, real in zip(listed[2:], size, strict=True))
    if told != size:
        turned = " (turned by 90 degrees: EXIF orientation is ignored, so outline objects on the pixels as stored)"
        raise DataError(
            f"{path} is {size[0]} x {size[1]} (height x width), but {file} says {shown(told[0])} x {shown(told[1])} of "
            f"image {shown(listed.id)}{turned if told == size[::-1] else ''}; correct the entry, or put the right image there."
        )
    return Found(path, os.path.realpath(path), os.path.getsize(path), header)


def _item(listed: Listed, found: Found, content: Content, labels: dict[Any, int]) -> tuple[Item, list[Any]]:
    """The Item, and the ids of the annotations that have no pixels."""
    size = (found.header.height, found.header.width)
    all_of_it = content.annotations[listed.id]
    rles = [_checked(one, size, content.file) for one in all_of_it]
    empty = [len(one) <= _SHORT and not areas([one], size)[0] for one in rles]
    kept = [i for i, one in enumerate(all_of_it) if labels[one.category] and not empty[i]]
    lost = [one.id for one, nothing in zip(all_of_it, empty, strict=True) if nothing]
    own = np.array([labels[all_of_it[i].category] for i in kept], np.int64)
    crowd = np.array([all_of_it[i].crowd for i in kept], bool)
    return Item(listed.name, found, [rles[i] for i in kept], own, crowd), lost


def _checked(one: Annotation, size: tuple[int, int], file: str) -> bytes:
    try:
        return run_length(one.segmentation, size)
    except ValueError as error:
        raise DataError(f"{file}: annotation {shown(one.id)} {error}") from error
