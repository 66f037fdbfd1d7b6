"""Text and colour keys on a picture, in Pillow's built-in font."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from PIL import ImageDraw, ImageFont

from seglab.types import Color
from seglab.viz.overlay import STRIPES

ROW = 20  # height of a legend row in pixels
Entry = tuple[str, Color | None]  # a name and its colour; None is the striped chip of ignored pixels
Placed = tuple[int, str, Color | None]  # the same with its x, the name shortened

_SIZE, _CHIP, _PAD, _BETWEEN, _LONGEST = 12, 11, 6, 16, 150
_INK, _RULE = (28, 30, 34), (200, 203, 208)


def text(draw: ImageDraw.ImageDraw, at: tuple[int, int], words: str, size: int, color: Color, width: int) -> None:
    """Write one line, `at` the middle of its left edge, shortened to `width` pixels."""
    draw.text(at, shorten(words, width, size), font=_font(size), fill=color, anchor="lm")


def rows(entries: Sequence[Entry], width: int, longest: int = _LONGEST) -> list[list[Placed]]:
    """Lay entries out within `width` pixels: in one row if they fit, else in aligned columns.

    Names longer than `longest` pixels get an ellipsis.
    """
    room = min(longest, width - _CHIP - _PAD)
    names = [shorten(name, room, _SIZE) for name, _ in entries]
    steps = [round(_font(_SIZE).getlength(name)) + _CHIP + _PAD + _BETWEEN for name in names]
    if sum(steps) - _BETWEEN <= width:
        places = [sum(steps[:i]) for i in range(len(steps))]
        per_row = max(len(steps), 1)
    else:
        per_row = max(1, (width + _BETWEEN) // max(steps))
        places = [i % per_row * max(steps) for i in range(len(steps))]
    cells = [(x, name, color) for x, name, (_, color) in zip(places, names, entries, strict=True)]
    return [cells[i : i + per_row] for i in range(0, len(cells), per_row)]


def legend(draw: ImageDraw.ImageDraw, placed: list[list[Placed]], x: int, y: int) -> None:
    """Draw the rows from (x, y) downwards, each ROW pixels high."""
    for i, row in enumerate(placed):
        middle = y + i * ROW + ROW // 2
        for offset, name, color in row:
            left, top = x + offset, middle - _CHIP // 2
            pale = color is not None and min(color) > 225  # needs a line around it on white paper
            box = (left, top, left + _CHIP - 1, top + _CHIP - 1)
            draw.rectangle(box, fill=color or STRIPES[0], outline=_RULE if pale else None)
            if color is None:
                draw.polygon([(left, top + 5), (left + 5, top), (left + 10, top), (left, top + 10)], fill=STRIPES[1])
            draw.text((left + _CHIP + _PAD, middle), name, font=_font(_SIZE), fill=_INK, anchor="lm")


def length(words: str, size: int) -> int:
    """The width of the words in pixels."""
    return round(_font(size).getlength(words))


def shorten(words: str, width: float, size: int) -> str:
    """The words as the font can write them, cut with an ellipsis to fit `width` pixels."""
    words, font = _plain(words), _font(size)
    if font.getlength(words) <= width:
        return words
    low, high = 0, len(words)  # a search by halves: a name may be a whole paragraph
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(words[:middle] + "…") <= width else (low, middle - 1)
    return words[:low].rstrip() + "…"


def _plain(words: str) -> str:
    """The words in the letters that the font has: accents are dropped, other scripts become '?', line breaks spaces."""
    line = "".join(" " if c.isspace() else c for c in words.strip())
    letters = (c for c in unicodedata.normalize("NFKD", line.replace("ß", "ss")) if not unicodedata.combining(c))
    return "".join(c if c in "…·" or (c.isascii() and c.isprintable()) else "?" for c in letters)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
