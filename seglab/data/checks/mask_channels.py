"""Masks of several channels: colours without a table, one-hot classes, and masks that are not stored alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seglab.data.checks.findings import Finding, Severity, many, named, said
from seglab.data.checks.looks import Label, Look
from seglab.data.folder_classes import Told

Masks = Sequence[tuple[Look, Label]]
_COLORS = 64  # more are not listed


def of_channels(masks: Masks, told: Told, mode: str | None, foreground: bool, deep: bool) -> list[Finding]:
    """All findings about the channels of masks; `deep`: each is a class."""
    found = [*_one_hot(masks, mode, deep)] if told.colors is None and not foreground else []
    if not any(one.severity == "error" for one in found):
        found += [*_channels(masks, deep), *_colors(masks, told, foreground, deep)]
    return found


def _channels(masks: Masks, deep: bool) -> list[Finding]:
    counts = Counter(label.channels(deep) for _, label in masks)
    usual = counts.most_common(1)[0][0]
    if deep:
        wrong = [look.mask for look, label in masks if label.channels(deep) != usual]
        text = "{} not the " + many(usual, "channel") + " of the others (one channel per class): {}."
    else:
        wrong = [look.mask for look, label in masks if label.channels(deep) not in (1, 3)]
        text = "{} channels that are neither ids (1) nor colours (3): {}."
    if not wrong:
        return []
    words = text.format(said(len(wrong), "mask has", "masks have"), named(wrong))
    evidence = {"channels": {str(n): k for n, k in counts.items()}}
    return [Finding("error", "mask_channels", words, tuple(wrong), evidence, "store all masks in one way")]


def _colors(masks: Masks, told: Told, foreground: bool, deep: bool) -> list[Finding]:
    colored = [one for one in masks if one[1].kind == "colors"]
    if not colored or deep:
        return []
    single = [one for one in masks if one[1].layers == 1]
    if single:
        fewer, kind = sorted(
            (([k.mask for k, _ in colored], "RGB colours"), ([k.mask for k, _ in single], "ids")), key=lambda t: len(t[0])
        )[0]
        palette = " (of palettes, where an index is the id)" if any(label.palette for _, label in single) else ""
        text = (
            f"{said(len(colored), 'mask holds', 'masks hold')} RGB colours and {len(single)} one number per "
            f"pixel{palette}; those with {kind} are {named(fewer)}."
        )
        remedy = "convert the RGB masks to ids (a palette's masks were saved as RGB?)"
        return [Finding("error", "mask_kinds", text, tuple(fewer), {"rgb": len(colored), "ids": len(single)}, remedy)]
    if told.colors is not None or foreground:
        return []
    pixels: Counter[int] = Counter()
    for _, label in colored:
        pixels.update(label.planes[0].values)
    table = [rgb(value) for value in sorted(pixels, key=lambda v: (v != 0, -pixels[v]))]
    few = len(table) <= _COLORS
    files = tuple(look.mask for look, _ in colored)
    text = (
        f"{said(len(files), 'mask holds', 'masks hold')} RGB colours, {len(table)} in all, and no table says what they mean: "
        f"{named(files)}."
    )
    remedy = f"data.colors={_list(table)}" if few else "name the classes' colours by data.colors"
    if few and told.classes is not None:
        remedy = f"data.colors=[...] with one of {_list(table)} for each of the {len(told.classes)} classes"
    evidence = {"colors": [{"rgb": rgb(v), "pixels": n} for v, n in pixels.most_common(_COLORS)]}
    return [Finding("error", "color_table", text, files, evidence, remedy)]


def _one_hot(masks: Masks, mode: str | None, deep: bool) -> list[Finding]:
    some = tuple(look.mask for look, label in masks if label.one_hot)
    if len(some) < len(masks) or mode == "multilabel":
        return []
    text = (
        f"The {len(some)} masks are one-hot: of {masks[0][1].layers} channels exactly one is set at every pixel. seglab "
        f"takes channels for {'classes that may overlap' if deep else 'colours'}."
    )
    remedy = "data.mode=multilabel if they may overlap; else store the channel's number (argmax) as the id"
    severity: Severity = "warning" if deep else "error"
    if not deep:
        remedy = "data.mode=multilabel"
    return [Finding(severity, "one_hot", text, some, {"channels": masks[0][1].layers}, remedy)]


def rgb(value: int) -> list[int]:
    """The colour of a code (see mask_codec.code)."""
    return [value & 255, value >> 8 & 255, value >> 16 & 255]


def _list(table: list[list[int]]) -> str:
    return str(table).replace(" ", "")
