"""Read a COCO JSON file: images, categories and annotations, checked, and as small as they can be before sizes are known.

Numbers become arrays while the JSON is parsed: the 41 million coordinates of COCO's training set would take 1.5 GB as lists.
"""

from __future__ import annotations

import gc
import json
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seglab.errors import DataError, visible

log = logging.getLogger("seglab")

_LARGE = 50_000_000  # bytes of JSON that take long enough to be told of
_TABLES = ("images", "categories", "annotations")


class Listed(NamedTuple):
    """An image as the file lists it: `name` relative, with forward slashes; height and width are None where not given."""

    id: Any
    name: str
    height: Any
    width: Any


class Annotation(NamedTuple):
    """An object: its id, its image's, its category's, whether it is a crowd, and its segmentation; None where missing."""

    id: Any
    image: Any
    category: Any
    crowd: Any
    segmentation: Any


class Content(NamedTuple):
    """One JSON file: images, categories (id -> the entry), and for each image's id its annotations in the file's order."""

    file: str
    images: list[Listed]
    categories: dict[Any, dict[str, Any]]
    annotations: dict[Any, list[Annotation]]


def read(file: Path) -> Content:
    """The checked content of a COCO JSON file; DataError names the file, the entry and what is wrong with it."""
    tables = _parsed(file)
    images = _images(str(file), tables["images"])
    by_image: dict[Any, list[Annotation]] = {one.id: [] for one in images}
    categories = _categories(str(file), tables["categories"])
    _group(str(file), tables["annotations"], by_image, categories)
    return Content(str(file), images, categories, by_image)


def shown(value: Any) -> str:
    """A value of the file for a message: on one line, and not longer than 80 characters."""
    text = visible(str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _parsed(file: Path) -> dict[str, list]:
    collecting = gc.isenabled()
    gc.disable()  # nothing of a JSON file is a cycle, and looking for some takes half of the time
    try:
        text = file.read_text(encoding="utf-8-sig")  # some tools on Windows write a byte order mark
        if len(text) > _LARGE:
            log.info("Reading %s (%d MB).", file, len(text) // 1_000_000)
        content = json.loads(text, object_hook=_compact)
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"{file} cannot be read as JSON: {why}; write or copy the file again.") from error
    finally:
        if collecting:
            gc.enable()
    form = "a COCO data set is an object with the lists images, categories and annotations"
    if not isinstance(content, dict):
        raise DataError(f"{file} is a list or a single entry, but {form}; name another file.")
    for key in _TABLES:
        if not isinstance(content.get(key), list):
            raise DataError(f"{file} has no list '{key}', but {form}; complete the file or name another.")
    if not content["images"]:
        raise DataError(f"{file} lists no images; complete the file or name another.")
    return {key: content[key] for key in _TABLES}


def _compact(entry: dict[str, Any]) -> Any:
    """What the parser keeps of a JSON object: of annotations five values, their numbers as arrays."""
    if isinstance(entry.get("counts"), list):
        entry["counts"] = _numbers(entry["counts"])
    return _annotation(entry) if "image_id" in entry and "file_name" not in entry else entry


def _annotation(entry: dict[str, Any]) -> Annotation:
    drawn = entry.get("segmentation")
    if isinstance(drawn, list):
        drawn = [_numbers(part) if isinstance(part, list) else part for part in drawn]
    number, image, category = (entry.get(key) for key in ("id", "image_id", "category_id"))
    return Annotation(number, image, category, entry.get("iscrowd", 0), drawn)


def _numbers(values: list) -> Any:
    """The values as an array, or as they are where one is no number."""
    try:
        array = np.array(values)
    except ValueError:  # lists of unequal length within
        return values
    return array if array.ndim == 1 and array.dtype.kind in "iuf" else values


def _entries(file: str, key: str, entries: list) -> Iterator[dict[str, Any]]:
    """The entries of a list; DataError unless each is an object whose id is given, plain, and unlike all others."""
    seen = set()
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{file}: entry {number} of '{key}' is {shown(entry)}, not an object; correct it or remove it.")
        if not _is_id(entry.get("id")):
            raise DataError(f"{file}: entry {number} of '{key}' has no usable id ({shown(entry.get('id'))}); give it a number.")
        if entry["id"] in seen:
            raise DataError(f"{file}: the id {shown(entry['id'])} stands twice in '{key}'; give every entry an id of its own.")
        seen.add(entry["id"])
        yield entry


def _is_id(value: Any) -> bool:
    """A whole number or a text; 7.0 is 7, which pandas writes."""
    return (isinstance(value, int | str) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _images(file: str, entries: list) -> list[Listed]:
    images: list[Listed] = []
    seen: dict[str, Any] = {}
    for entry in _entries(file, "images", entries):
        name = _relative(file, entry["id"], entry.get("file_name"))
        if name in seen:
            raise DataError(
                f"{file} lists {shown(name)} twice, as image {shown(seen[name])} and as image {shown(entry['id'])}; "
                "merge the two, so that all its objects are together."
            )
        seen[name] = entry["id"]
        images.append(Listed(entry["id"], name, entry.get("height"), entry.get("width")))
    return images


def _relative(file: str, image: Any, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise DataError(f"{file}: image {shown(image)} has no file_name; add it or remove the image.")
    path = posixpath.normpath(name.replace("\\", "/"))
    if path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:/", path):
        raise DataError(
            f"{file}: image {shown(image)} has the file_name {shown(name)}, which leads outside of the data set; write names "
            "relative to a folder, and name that folder by data.images."
        )
    return path


def _categories(file: str, entries: list) -> dict[Any, dict[str, Any]]:
    found = {}
    for entry in _entries(file, "categories", entries):
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            raise DataError(f"{file}: category {shown(entry['id'])} has no name; give it one.")
        found[entry["id"]] = entry
    if not found:
        raise DataError(f"{file} lists no categories; complete the file or name another.")
    return found


def _group(file: str, entries: list, by_image: dict[Any, list[Annotation]], categories: dict[Any, Any]) -> None:
    """Put every annotation under its image; DataError for one without a usable id, or of an unknown image or category."""
    seen = set()
    for number, entry in enumerate(entries):
        one = _annotation(entry) if isinstance(entry, dict) else entry
        if not isinstance(one, Annotation) or not _is_id(one.id):
            what = f"has the id {shown(one.id)}" if isinstance(one, Annotation) else f"is {shown(entry)}"
            raise DataError(f"{file}: entry {number} of 'annotations' {what}; give it a number as id, or remove it.")
        if one.id in seen:
            raise DataError(f"{file}: annotation {shown(one.id)} stands twice; give every annotation an id of its own.")
        seen.add(one.id)
        if not _is_id(one.image) or one.image not in by_image:
            raise DataError(
                f"{file}: annotation {shown(one.id)} has the image_id {shown(one.image)}, which no image has; add the image or "
                "remove the annotation."
            )
        if not _is_id(one.category) or one.category not in categories:
            known = ", ".join(shown(i) for i in list(categories)[:10])
            raise DataError(
                f"{file}: annotation {shown(one.id)} has the category_id {shown(one.category)}, which no category has (they "
                f"are {known}{', ...' if len(categories) > 10 else ''}); add the category or correct the annotation."
            )
        if one.crowd not in (0, 1, None):  # the text "0" would pass for a crowd
            raise DataError(f"{file}: annotation {shown(one.id)} has iscrowd {shown(one.crowd)}; it must be the number 0 or 1.")
        by_image[one.image].append(one)
