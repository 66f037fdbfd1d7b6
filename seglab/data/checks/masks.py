"""Masks that do not hold what training would read into them: scales, shifted ids, colours, smoothing, unknown ids."""

from __future__ import annotations

import re
from collections import Counter

from seglab.data.checks.findings import Finding, Severity, many, named, percent, said
from seglab.data.checks.mask_channels import Masks, of_channels, rgb
from seglab.data.checks.meaning import Meaning, layered
from seglab.data.folder_classes import Told

_SMOOTH, _RARE, _ON_BORDER, _MOST = 20, 0.001, 0.9, 0.75
_MANY_IDS, _STEPS = 20, 3
_FILL = "unlabelled"


def of_masks(
    masks: Masks, told: Told, mode: str | None, foreground: bool, meaning: Meaning | None, why: str, sample: bool = False
) -> list[Finding]:
    """All findings about the values of masks; where none explains why training refuses them, `why` is told.

    Of a `sample` nothing is said that holds for all masks only.
    """
    deep = layered(masks, mode, foreground)
    found = of_channels(masks, told, mode, foreground, deep)
    numbered = [one for one in masks if one[1].kind == "ids"]
    if not deep and numbered:
        checks = (_smoothed, _objects, _two_scales, _off_by_one, _nothing)
        for check in checks[: -1 if sample else None]:
            more = check(numbered, told, foreground, meaning)
            found += more
            if any(one.severity == "error" for one in more):
                break  # the others would only tell of the same values
    if meaning is not None and not any(one.severity == "error" for one in found):
        found += [*unknown(masks, meaning, told.classes is None), *_full_scale(masks, told, meaning)]
    if meaning is None and not any(one.severity == "error" for one in found):
        found.append(Finding("error", "mask_values", why))
    return found


def _smoothed(masks: Masks, told: Told, foreground: bool, meaning: Meaning | None) -> list[Finding]:
    """Values between the ids, along borders: smoothed or resized with interpolation, or JPEG on the way."""
    pixels, edge = Counter[int](), Counter[int]()
    for _, label in masks:
        pixels.update(label.planes[0].values)
        edge.update(label.planes[0].border)
    total = sum(pixels.values())
    lines = {v for v, n in pixels.items() if edge[v] >= _ON_BORDER * n}
    between = {v for v in lines if pixels[v] < _RARE * total}
    if len(pixels) <= _SMOOTH or len(between) < _MOST * len(pixels):
        # Fewer values, each of more pixels: only where no class has them, as a class can be a thin line.
        known = meaning.ids if meaning is not None else {}
        between = {v for v in lines - known.keys() if min(pixels) < v < max(pixels)}
        if len(between) < max(_STEPS, len(pixels) / 2):
            return []
    files = tuple(look.mask for look, label in masks if len(label.values & between) > 2)
    share = sum(pixels[v] for v in between) / total
    main = sorted(set(pixels) - between)[:8]
    text = (
        f"{said(len(files), 'mask holds', 'masks hold')} values between the ids along borders ({len(between)} of them, "
        f"{percent(share)} of pixels, besides {', '.join(map(str, main))}), as smoothing, resizing or JPEG leave them: "
        f"{named(files)}."
    )
    evidence = {"values": len(between), "share": share, "main": main}
    # Among ids that were given names there may be many thin classes.
    named_all = told.classes is not None and meaning is not None and between <= meaning.ids.keys()
    severity: Severity = "warning" if foreground or named_all else "error"
    remedy = "export the masks without smoothing (nearest neighbour)"
    if severity == "error" and meaning is not None:
        remedy += ", or name the classes by data.classes if they are thin things"
    return [Finding(severity, "smoothed_masks", text, files, evidence, remedy)]


def _objects(masks: Masks, told: Told, foreground: bool, meaning: Meaning | None) -> list[Finding]:
    """Ids of single objects: 1..N without gaps, N another one in each mask."""
    if foreground or (told.classes is not None and len(told.classes) > 2):
        return []
    values = [sorted(label.values - {0, told.ignore_index}) for _, label in masks]
    some = [one for one in values if one]
    gapless = sum(one[-1] - one[0] + 1 <= 1.2 * len(one) for one in some)
    tops = {one[-1] for one in some}
    if not tops or max(tops) <= _MANY_IDS or gapless < 0.7 * len(some) or len(tops) < min(3, len(some)):
        return []
    text = f"The {len(masks)} masks hold ids of single objects (up to {max(tops)}, not alike in all), not of classes."
    severity: Severity = "warning" if meaning is not None and told.classes is None else "error"
    evidence = {"highest": max(tops), "gapless": gapless, "masks": len(masks)}
    files = tuple(look.mask for (look, _), one in zip(masks, values, strict=True) if one)
    return [Finding(severity, "object_ids", text, files, evidence, "data.foreground=true")]


def _two_scales(masks: Masks, told: Told, foreground: bool, meaning: Meaning | None) -> list[Finding]:
    if foreground or told.ignore_index is not None or len(told.classes or ()) > 2:
        return []
    ones = [look.mask for look, label in masks if label.values in ({0, 1}, {1})]
    full = [look.mask for look, label in masks if label.values in ({0, 255}, {255})]
    if not any({0, 255} == label.values for _, label in masks):  # masks of 255 alone may be void all over
        return []
    if not ones or not full or len(ones) + len(full) + sum(label.values == {0} for _, label in masks) < len(masks):
        return []
    fewer = min(ones, full, key=len)
    text = (
        f"{said(len(ones), 'mask marks', 'masks mark')} the foreground by 1 and {len(full)} by 255: fewer are {named(fewer)}."
    )
    return [
        Finding("error", "two_scales", text, tuple(fewer), {"by_1": len(ones), "by_255": len(full)}, "data.foreground=true")
    ]


def _off_by_one(masks: Masks, told: Told, foreground: bool, meaning: Meaning | None) -> list[Finding]:
    values = {v for _, label in masks for v in label.values} - {255 if told.ignore_index is None else told.ignore_index}
    if foreground or not values or min(values) != 1 or told.colors is not None:
        return []
    files = tuple(look.mask for look, _ in masks)
    last, evidence = max(values), {"ids": sorted(values)[:64]}
    if told.classes is not None:
        count = len(told.classes)
        if count < 2 or last != count:
            return []
        text = f"The {count} classes have the ids 1..{count} in the masks, and nothing is 0: seglab counts ids from 0."
        remedy = f"data.classes=[{','.join(map(_quoted, (_FILL, *told.classes)))}]"
        return [Finding("error", "off_by_one", text, files, evidence, remedy)]
    if last > _MANY_IDS:
        return []
    text = f"The ids in the masks begin at 1 (1..{last}) and nothing is 0: a class 0 without pixels is counted."
    return [
        Finding("warning", "off_by_one", text, files, evidence, "subtract 1 from the ids, or name the classes by data.classes")
    ]


def _nothing(masks: Masks, told: Told, foreground: bool, meaning: Meaning | None) -> list[Finding]:
    values = {v for _, label in masks for v in label.values} - {told.ignore_index}
    if len(values) > 1:
        return []
    only = next(iter(values), told.ignore_index)
    text = f"All {many(len(masks), 'mask')} hold nothing but {only}: there is nothing to learn."
    files = tuple(look.mask for look, _ in masks)
    return [Finding("error", "empty_masks", text, files, {"value": only}, "export the masks again")]


def unknown(masks: Masks, meaning: Meaning, counted: bool = False) -> list[Finding]:
    """Values that no class has: which, in how many pixels, in which files. `counted`: classes are not told, but counted."""
    pixels, files, ignored = Counter[int](), list[str](), False
    for look, label in masks:
        bad = {v: n for plane in label.planes for v, n in plane.values.items() if meaning.of(label, v) is None}
        pixels.update(bad)
        if bad:
            files.append(look.mask)
        ignored = ignored or any(meaning.ids.get(v) == meaning.ignore for v in label.values)
    if not pixels:
        return []
    total = sum(sum(plane.values.values()) for _, label in masks for plane in label.planes)
    share, some = sum(pixels.values()) / total, [v for v, _ in pixels.most_common(8)]
    if meaning.colored:
        what, shown = "colour", ", ".join(str(rgb(v)) for v in some)
    else:
        what, shown = "id", ", ".join(map(str, sorted(some)))
    more = f" and {len(pixels) - len(some)} more" if len(pixels) > len(some) else ""
    text = (
        f"{said(len(files), 'mask holds', 'masks hold')} the {what}{'s' * (len(pixels) > 1)} {shown}{more}, which none of the "
        f"{len(meaning.classes)} classes has ({percent(share)} of pixels): {named(files)}."
    )
    remedy = f"add the {what} as a class, or correct the masks"
    if len(pixels) == 1 and not meaning.colored and meaning.mode != "multilabel" and not ignored:
        remedy = f"data.ignore_index={some[0]}"
    if counted and not meaning.colored and meaning.mode != "binary":
        remedy = f"data.classes=[...] with a name for each id up to {max(pixels)}"
    values = {str(rgb(v)) if meaning.colored else str(v): n for v, n in pixels.most_common(64)}
    kind = "unknown_colors" if meaning.colored else "unknown_ids"
    return [Finding("error", kind, text, tuple(files), {"pixels": values, "share": share}, remedy)]


def _full_scale(masks: Masks, told: Told, meaning: Meaning) -> list[Finding]:
    if meaning.ids.get(255) != 1 or not any(255 in label.values for _, label in masks):
        return []
    text = f"The masks hold 0 and 255; 255 is read as {meaning.classes[1] if meaning.mode != 'multilabel' else 'set'}."
    return [Finding("info", "full_scale", text, (), {"masks": len(masks)})]


def _quoted(name: str) -> str:
    """A class name as Hydra reads it inside a list."""
    return name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
