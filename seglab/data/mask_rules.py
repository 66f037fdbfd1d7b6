"""Decide what the masks of a folder mean: classes, mode, ignore id and the Codec, from what was told and what was seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from seglab.data.folder_classes import Told
from seglab.data.folder_scan import Seen
from seglab.data.mask_codec import Codec, code, no_table
from seglab.errors import ConfigError, DataError
from seglab.types import Mode

log = logging.getLogger("seglab")

BACKGROUNDS = (
    "background",
    "bg",
    "back",
    "other",
    "others",
    "rest",
    "none",
    "nothing",
    "negative",
    "no",
    "non",
    "not",
    "empty",
)
_TOO_MANY = 100  # more classes than this are not counted from masks: they are nearly always instance ids


@dataclass(frozen=True)
class Rules:
    """The meaning of a folder's masks. `instances`: stored values are ids of single objects."""

    classes: tuple[str, ...]
    mode: Mode
    ignore_index: int
    codec: Codec
    instances: bool = False

    def objects(self, stored: np.ndarray, mask: np.ndarray, path: str) -> np.ndarray:
        """Ids of single objects, H W int32, from the stored mask: where its class ids (`mask`) are the foreground, else 0."""
        return np.where(mask == 1, self.codec.values(stored, path).astype(np.int32), 0)


def is_layered(mode: str | None, foreground: bool, layers: set[int]) -> bool:
    """Whether masks are H W K (multilabel): if told, or if they have a number of channels that no colour has."""
    return mode == "multilabel" or (mode is None and not foreground and bool(layers - {1, 3}))


def decide(told: Told, mode: str | None, foreground: bool, layers: int, layered: bool, seen: Sequence[Seen]) -> Rules:
    """The Rules for masks with these channels (`layers`) and these sampled values; Config- or DataError if they clash."""
    if foreground:
        return _foreground(told, mode, seen)
    if layered:
        return _layered(told, layers, seen)
    colored = told.colors is not None and layers == 3 and _needs_colors(told, seen)
    if colored:
        return _colored(told, mode)
    for one in seen:
        if one.values is None:
            raise no_table(one.path)
    return _numbered(told, mode, seen)


def _foreground(told: Told, mode: str | None, seen: Sequence[Seen]) -> Rules:
    if mode not in (None, "binary"):
        raise ConfigError(f"data.foreground=true makes a binary mask, so data.mode={mode} cannot hold; leave data.mode out.")
    names = _two(told.where, told.classes or ("background", "foreground"), "data.foreground=true")
    keep = () if told.ignore_index is None else ((told.ignore_index, told.ignore_index),)
    codec = Codec(((0, 0), *keep), rest=1, colored=any(s.values is None for s in seen))
    # Without a second positive value anywhere the masks are plain 0/1 or 0/255 and tell no objects apart.
    instances = codec.colored or len(_values(seen) - {0, told.ignore_index}) > 1
    return Rules(names, "binary", _ignore(told, 2), codec, instances)


def _layered(told: Told, layers: int, seen: Sequence[Seen]) -> Rules:
    names = told.classes or tuple(f"class_{i}" for i in range(layers))
    if len(names) != layers:
        raise DataError(
            f"{seen[0].path} has {layers} channel{'s' * (layers > 1)} for the {len(names)} classes of {told.where}; "
            "a multilabel mask has one channel per class (data.mode=multiclass, if it holds one id per pixel)."
        )
    ignore, values = _ignore(told, 0), _values(seen)
    full = told.ignore_index is None and values == {0, 255}
    ids = ((0, 0), (255, 1)) if full else ((0, 0), (1, 1), (ignore, ignore))
    known = "0 and 255" if full else f"0, 1 and the ignore_index {ignore}"
    return Rules(
        names, "multilabel", ignore, Codec(ids, layered=True, remedy=f"a multilabel mask holds {known}; correct the file")
    )


def _colored(told: Told, mode: str | None) -> Rules:
    names, colors = cast(tuple[str, ...], told.classes), told.colors or ()
    twice = next((c for i, c in enumerate(colors) if c in colors[:i]), None)
    if twice is not None:
        raise DataError(f"The colour {list(twice)} stands for two classes; give every class a colour of its own.")
    ignore = _ignore(told, len(names))
    ids = [(code(c), i) for i, c in enumerate(colors)]
    if told.ignore_color is not None and told.ignore_color not in colors:
        ids.append((code(told.ignore_color), ignore))
    return Rules(names, _mode(mode, names), ignore, Codec(tuple(ids), colored=True))


def _numbered(told: Told, mode: str | None, seen: Sequence[Seen]) -> Rules:
    values = _values(seen)
    full = told.ignore_index is None and values == {0, 255} and len(told.classes or ()) <= 2
    names = told.classes or (("background", "foreground") if full else _counted(told, seen))
    where = told.where if told.classes else "the masks"
    if len(names) == 1:
        log.info("With the single class '%s' the masks are taken as background (0) and %s (1).", names[0], names[0])
        names = ("background", names[0])
    if mode == "binary":
        names = _two(where, names, "data.mode=binary")
    ignore = _ignore(told, len(names))
    if full:
        log.info("The masks hold only 0 and 255 (%d looked at): 0 is taken as %s, 255 as %s.", len(seen), *names)
        remedy = "the masks were taken as 0 and 255 only; correct the file, or set data.classes and data.ignore_index"
        return Rules(names, _mode(mode, names), ignore, Codec(((0, 0), (255, 1)), remedy=remedy))
    if told.ignore_index is None:
        _refuse_two_scales(seen, len(names))
    if not values - {0, ignore}:
        log.warning("The %d masks looked at hold nothing but %s; is that meant?", len(seen), sorted(values))
    last = len(names) - 1
    remedy = f"the classes of {where} have the ids 0..{last} and ignore_index is {ignore}; set data.ignore_index={{value}} "
    ids = (*((i, i) for i in range(len(names))), (ignore, ignore))
    return Rules(names, _mode(mode, names), ignore, Codec(ids, remedy=remedy + "if it means 'ignore', or add its class"))


def _counted(told: Told, seen: Sequence[Seen]) -> tuple[str, ...]:
    """Names for the ids seen: 0..highest, the ignore id left out."""
    ignore = 255 if told.ignore_index is None else told.ignore_index
    found = sorted(_values(seen) - {ignore})
    if not found or found == [0]:
        only = f"The masks hold only {found or [ignore]} ({seen[0].path} and {len(seen) - 1} more)"
        raise DataError(f"{only}; name the classes by data.classes.")
    if found[0] < 0 or found[-1] >= _TOO_MANY:
        value = found[0] if found[0] < 0 else found[-1]
        where = next(s.path for s in seen if s.values and value in s.values)
        raise DataError(
            f"{where} holds the id {value}, which no class is likely to have; set data.foreground=true if these are ids of "
            f"single objects, data.ignore_index={value} if it means 'ignore', or name the classes by data.classes."
        )
    count = found[-1] + 1
    absent = "" if len(found) == count else f" (of these, {count - len(found)} were not met)"
    objects = " Are they ids of single objects? Then set data.foreground=true." if count > 20 else ""
    text = "%d classes were counted in %d masks%s; name them by data.classes or classes.json.%s"
    log.info(text, count, len(seen), absent, objects)
    return ("background", "foreground") if count == 2 else tuple(f"class_{i}" for i in range(count))


def _refuse_two_scales(seen: Sequence[Seen], classes: int) -> None:
    """Masks of 0/1 and masks of 0/255 in one folder: 255 would pass for 'ignore' and the objects would be lost."""
    ones = next((s.path for s in seen if s.values and 1 in s.values and 255 not in s.values), None)
    full = next((s.path for s in seen if s.values and s.values == {0, 255}), None)
    both = any(s.values and {1, 255} <= s.values for s in seen)
    if classes == 2 and ones and full and not both:
        raise DataError(
            f"{ones} marks the foreground by 1 and {full} by 255; give both the same value, or set data.ignore_index=255 "
            "if 255 means 'ignore'."
        )


def _needs_colors(told: Told, seen: Sequence[Seen]) -> bool:
    """Whether three-channel masks are to be read through the colour table: yes, unless all are grey with ids as values."""
    if any(s.values is None for s in seen):
        return True
    grays = {c[0] for c in told.colors or () if c[0] == c[1] == c[2]}
    if told.ignore_color is not None:
        grays.add(told.ignore_color[0])
    return _values(seen) <= grays


def _values(seen: Sequence[Seen]) -> set[int]:
    return {v for s in seen for v in s.values or ()}


def _ignore(told: Told, classes: int) -> int:
    if told.ignore_index is not None:
        return told.ignore_index
    return 255 if classes <= 255 else 65535


def _two(where: str, names: tuple[str, ...], because: str) -> tuple[str, ...]:
    if len(names) == 1:
        names = ("background", names[0])
    if len(names) != 2:
        raise ConfigError(
            f"{because} needs two classes (background, foreground), but {where} gave {len(names)}: "
            f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}; set data.classes=[background,NAME] or another mode."
        )
    return names


def _mode(mode: str | None, names: tuple[str, ...]) -> Mode:
    """As told; else binary for two classes whose first is a background."""
    words = names[0].lower().replace("-", "_").split("_")
    found = "binary" if len(names) == 2 and words[0] in BACKGROUNDS else "multiclass"
    return cast(Mode, mode or found)
