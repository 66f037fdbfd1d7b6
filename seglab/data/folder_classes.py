"""What the user says about classes: classes.json in the data's folder, and data.classes, data.colors, data.ignore_index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seglab.data.layout import read_json
from seglab.errors import ConfigError, DataError, is_text, visible
from seglab.types import Color

_FORMS = '{"classes": [names], "ignore_index": n, "palette": [[r,g,b], ...]}, ["a", "b"] or {"a": [r,g,b]}'


@dataclass(frozen=True)
class Told:
    """Class names, ignore id and colours as far as they were told; `where` says by whom, for messages."""

    classes: tuple[str, ...] | None = None
    ignore_index: int | None = None
    colors: tuple[Color, ...] | None = None
    ignore_color: Color | None = None
    where: str = "data.classes"


def told_classes(
    root: Path, classes: Sequence[str] | None, ignore_index: int | None, colors: Sequence[Sequence[int]] | None
) -> Told:
    """The arguments where given, else classes.json (its forms: names and colours, a list, names to colours)."""
    file = root / "classes.json"
    told = _from_file(file) if file.is_file() else Told()
    if ignore_index is not None and (not isinstance(ignore_index, int) or isinstance(ignore_index, bool)):
        raise ConfigError(f"data.ignore_index={ignore_index!r} must be a whole number.")
    names = _names(classes, "data.classes", ConfigError) if classes is not None else told.classes
    if colors is not None:
        table: tuple[Color, ...] | None = tuple(_color(c, "data.colors", ConfigError) for c in colors)
    else:
        table = told.colors if names is None or told.colors is None or len(told.colors) == len(names) else None
    if names is None and table is not None:
        names = tuple(f"class_{i}" for i in range(len(table)))
    if names is not None and table is not None and len(table) != len(names):
        raise ConfigError(f"data.colors has {len(table)} colours for {len(names)} classes; give one colour per class.")
    ignore = told.ignore_index if ignore_index is None else ignore_index
    return Told(names, ignore, table, told.ignore_color, "data.classes" if classes is not None else told.where)


def _from_file(file: Path) -> Told:
    content = read_json(file, (dict, list))
    if isinstance(content, list):
        return Told(_names(content, str(file), DataError), where=str(file))
    if "classes" not in content:
        if not content or not all(isinstance(v, list) for v in content.values()):
            raise DataError(f"{file} has no 'classes'; write {_FORMS}.")
        colors = tuple(_color(c, str(file), DataError) for c in content.values())
        return Told(_names(list(content), str(file), DataError), colors=colors, where=str(file))
    names = _names(content["classes"], str(file), DataError)
    table, ignore, hidden = (content.get(key) for key in ("palette", "ignore_index", "ignore_color"))
    if ignore is not None and (not isinstance(ignore, int) or isinstance(ignore, bool)):
        raise DataError(f"{file}: ignore_index is {ignore!r}; it must be a whole number.")
    if table is not None and (not isinstance(table, list) or len(table) != len(names)):
        raise DataError(f"{file}: palette must be a list of one [r, g, b] for each of the {len(names)} classes.")
    palette = None if table is None else tuple(_color(c, str(file), DataError) for c in table)
    return Told(names, ignore, palette, None if hidden is None else _color(hidden, str(file), DataError), str(file))


def _names(names: Any, where: str, error: type[Exception]) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not names or not all(isinstance(n, str) for n in names):
        raise error(f"{where} must be a list of class names such as [background, road], not {names!r}.")
    twice = next((n for n in names if list(names).count(n) > 1), None)
    if twice is not None:
        raise error(f"{where} names the class '{twice}' twice; class names must be distinct.")
    half = next((n for n in names if not is_text(n)), None)
    if half is not None:
        raise error(f"{where}: the class '{visible(half)}' holds half of a character; correct it.")
    return tuple(names)


def _color(color: Any, where: str, error: type[Exception]) -> Color:
    good = isinstance(color, Sequence) and len(color) == 3
    if not good or not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 255 for v in color):
        raise error(f"{where} has the colour {color!r}; a colour is [red, green, blue] with numbers from 0 to 255.")
    return int(color[0]), int(color[1]), int(color[2])
