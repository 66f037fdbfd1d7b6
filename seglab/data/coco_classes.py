"""From the categories of COCO files to classes: background first, then the categories, or those that were named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from seglab.data.coco_reading import Content, shown
from seglab.errors import ConfigError, DataError, nearest, visible
from seglab.types import Color, distinct_colors

log = logging.getLogger("seglab")

BACKGROUND = "background"
Category = dict[str, Any]


def classes_of(contents: Sequence[Content], told: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """The class names, background first, and their colours (none unless every category has one).

    Categories are one class where their names are equal, whatever their ids in the files; an id orders them. Config- or
    DataError for an unknown name, and for two categories of one name.
    """
    found: dict[str, Category] = {}
    for content in contents:
        mine = _named(content)
        new = [name for name in mine if name not in found]
        if found and new:
            log.info("%s has categories that earlier files lack: %s.", content.file, ", ".join(map(shown, new)))
        found |= {name: mine[name] for name in new}
    if not found:
        raise DataError(f"{contents[0].file} has no category that is a class; name the categories of the objects in it.")
    names = _chosen(found, told)
    left = len(found.keys() - set(names))
    if left:
        log.info("Objects of %d categories are left out, as data.classes does not name these.", left)
    return (BACKGROUND, *names), _colors([found.get(name, {}) for name in names])


def labels_of(content: Content, classes: tuple[str, ...]) -> dict[Any, int]:
    """The class of each category id of a file; 0 for a category that is left out."""
    numbers = {name: number for number, name in enumerate(classes)}
    return {key: numbers.get(entry["name"], 0) for key, entry in content.categories.items()}


def _named(content: Content) -> dict[str, Category]:
    """The categories by name, sorted by id. Without objects, a parent (Roboflow's category 0) or a background is no class."""
    used = {one.category for some in content.annotations.values() for one in some}
    named: dict[str, Category] = {}
    for key in sorted(content.categories, key=lambda k: (isinstance(k, str), k)):
        entry, name = content.categories[key], content.categories[key]["name"]
        others = (e for k, e in content.categories.items() if k != key)
        if key not in used and (name == BACKGROUND or any(e.get("supercategory") == name for e in others)):
            log.info("%s: category %s (%s) has no objects and is left out.", content.file, shown(key), shown(name))
            continue
        if name in named:
            raise DataError(
                f"{content.file}: the categories {shown(named[name]['id'])} and {shown(key)} have the same name "
                f"'{shown(name)}'; rename one, or give their objects the same category_id."
            )
        named[name] = entry
    return named


def _chosen(found: dict[str, Category], told: Sequence[str] | None) -> tuple[str, ...]:
    if told is None:
        if BACKGROUND in found:
            raise DataError(
                f"A category with objects is named '{BACKGROUND}', which is what pixels without an object are called; rename "
                "it, or name the other categories by data.classes."
            )
        return tuple(found)
    if isinstance(told, str) or not told or not all(isinstance(n, str) for n in told):
        raise ConfigError(f"data.classes must be a list of category names such as [person, car], not {told!r}.")
    whole = told[0] == BACKGROUND and len(told) > 1  # all classes of a checkpoint: other images may lack a category
    for name in told[1:] if whole else told:
        if name == BACKGROUND:
            raise ConfigError(f"data.classes names '{BACKGROUND}', which is always class 0; leave it out.")
        if name not in found and whole:
            log.warning("No category is named '%s'; the class is in none of these images.", shown(name))
        elif name not in found:
            hint = nearest(name, found)
            hint = visible(hint) if "Did" in hint or len(found) <= 100 else ""  # LVIS has 1203
            raise ConfigError(f"data.classes names '{shown(name)}', but no category has that name.{hint}")
        if list(told).count(name) > 1:
            raise ConfigError(f"data.classes names '{shown(name)}' twice; names must be distinct.")
    return tuple(told[1:] if whole else told)


def _colors(categories: list[Category]) -> tuple[Color, ...]:
    colors = [one.get("color") for one in categories]
    if not all(isinstance(c, list) and len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in colors):
        return ()
    return (*distinct_colors(1), *((c[0], c[1], c[2]) for c in colors if c))
