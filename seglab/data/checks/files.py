"""Files that cannot be used, or not as they are: damage, orientation, sizes, channels, depth, blank images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from seglab.data.checks.findings import Finding, Severity, many, named, said
from seglab.data.checks.looks import Look

_FLAT, _BLACK = 1 / 255, 4 / 255
_FAULTS = {
    "empty_file": ("{} hold{s} no byte", "copy the files again"),
    "unreadable": ("{} cannot be decoded", "repair the files, or remove them with their partners"),
    "not_finite": ("{} hold{s} NaN or infinite values", "replace them by numbers"),
    "pixel_type": ("{} {have} pixels of a type that is not read", "store uint8, uint16 or float32 (masks: whole numbers)"),
    "jpeg_mask": ("{} {be} JPEG, whose compression changes ids along every border", "store the original masks as PNG"),
    "mask_fractions": ("{} hold{s} fractions instead of class ids", "store whole numbers"),
}


def usable(looks: Sequence[Look]) -> list[Finding]:
    """Everything about single files, whatever the masks mean."""
    return [*_faults(looks), *_orientation(looks), *_sizes(looks), *_blank(looks)]


def _faults(looks: Sequence[Look]) -> list[Finding]:
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for look in looks:
        for where, kind, why in look.faults:
            found[kind].append((where, look.image if where == "image" else look.mask, why))
    findings = []
    for kind, some in found.items():
        words, remedy = _FAULTS[kind]
        count, files = len(some), tuple(path for _, path, _ in some)
        noun = some[0][0] if len({where for where, _, _ in some}) == 1 else "file"
        one = count == 1
        text = words.format(many(count, noun), s="s" * one, have="has" if one else "have", be="is" if one else "are")
        why = some[0][2] if kind == "unreadable" else ""
        text = f"{text}: {named(files)}{f' ({why})' if why else ''}."
        findings.append(Finding("error", kind, text, files, {"files": count}, remedy))
    return findings


def _orientation(looks: Sequence[Look]) -> list[Finding]:
    turned = [look for look in looks if look.picture and look.picture.orientation != 1]
    if not turned:
        return []
    files = tuple(look.image for look in turned)
    text = (
        f"{said(len(files), 'image carries', 'images carry')} an EXIF orientation, which seglab ignores, so that masks must "
        f"be drawn on the pixels as stored: {named(files)}."
    )
    tags = Counter(str(look.picture.orientation) for look in turned if look.picture)
    remedy = "turn the stored pixels and remove the tag (jpegtran, exiftool), then draw the masks on what is stored"
    return [Finding("warning", "exif_orientation", text, files, {"tags": dict(tags)}, remedy)]


def _sizes(looks: Sequence[Look]) -> list[Finding]:
    both = [(look, look.picture, look.label) for look in looks if look.picture and look.label]
    wrong = [(k, p, m) for k, p, m in both if (p.height, p.width) != (m.height, m.width)]
    swapped = [(k, p, m) for k, p, m in wrong if (p.height, p.width) == (m.width, m.height)]
    other = [one for one in wrong if one not in swapped]
    findings = []
    for kind, some, how in (
        ("swapped_sides", swapped, "the image's sides swapped"), ("size_mismatch", other, "another size than the image")
    ):  # fmt: skip
        if some:
            files = tuple(k.mask for k, _, _ in some)
            _, p, m = some[0]
            text = (
                f"{said(len(files), 'mask has', 'masks have')} {how}: {named(files)} "
                f"({m.height} x {m.width} for {p.height} x {p.width})."
            )
            remedy = "draw the masks on the pixels as stored" if kind == "swapped_sides" else "export both at one size"
            findings.append(Finding("error", kind, text, files, {"files": len(files)}, remedy))
    return findings


def _blank(looks: Sequence[Look]) -> list[Finding]:
    pictures = [(look.image, look.picture) for look in looks if look.picture]
    flat = tuple(path for path, p in pictures if max(p.std) < _FLAT and p.high - p.low <= 2 * _FLAT)
    black = tuple(path for path, p in pictures if path not in set(flat) and p.high <= _BLACK)
    findings = []
    for kind, files, how in (("constant_image", flat, "one colour only"), ("black_image", black, "nothing but near-black")):
        if files:
            text = f"{said(len(files), 'image shows', 'images show')} {how}: {named(files)}."
            remedy = "look at them; remove them with their masks if they are mistakes"
            findings.append(Finding("warning", kind, text, files, {"files": len(files)}, remedy))
    return findings


def channels(looks: Sequence[Look], wanted: int | None) -> list[Finding]:
    """Images that differ in their channels or depth, and alpha that would become an input of the network."""
    pictures = [(look.image, look.picture) for look in looks if look.picture]
    if not pictures:
        return []
    counts = Counter(p.channels for _, p in pictures)
    findings = []
    if wanted is not None:
        lost = tuple(path for path, p in pictures if p.channels != wanted and (wanted not in (1, 3) or p.channels > 4))
        if lost:
            text = f"{many(len(lost), 'image')} cannot be converted to data.channels={wanted}: {named(lost)}."
            findings.append(Finding("error", "channels", text, lost, {"channels": _plain(counts)}, "leave data.channels out"))
    elif len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        files = tuple(path for path, p in pictures if p.channels != usual)
        text = (
            f"{said(len(files), 'image has', 'images have')} other channels than the {counts[usual]} with {usual}: "
            f"{named(files)}."
        )
        remedy = ("data.channels=1" if max(counts) <= 2 else "data.channels=3") if max(counts) <= 4 else "store all alike"
        findings.append(Finding("error", "channels", text, files, {"channels": _plain(counts)}, remedy))
    elif pictures[0][1].alpha:
        text = f"The images have an alpha channel, which the network would be given as channel {max(counts)}."
        remedy = f"data.channels={1 if max(counts) == 2 else 3}"
        findings.append(Finding("warning", "alpha", text, (), {"channels": _plain(counts)}, remedy))
    return [*findings, *_depths(pictures)]


def _depths(pictures: list) -> list[Finding]:
    depths = Counter(p.dtype for _, p in pictures)
    findings = []
    severity: Severity = "warning"
    if len(depths) > 1:
        usual = depths.most_common(1)[0][0]
        files = tuple(path for path, p in pictures if p.dtype != usual)
        text = f"{said(len(files), 'image is', 'images are')} not {usual} as the other {depths[usual]}: {named(files)}."
        findings.append(Finding(severity, "bit_depth", text, files, {"types": dict(depths)}, "store all with one depth"))
    deep = [(path, p) for path, p in pictures if p.dtype == "uint16"]
    if deep and max(p.high for _, p in deep) < 0.07:
        text = (
            f"The {many(len(deep), '16-bit image')} use at most {max(p.high for _, p in deep):.3f} of their range (12 bits?)."
        )
        findings.append(
            Finding("info", "low_range", text, (), {"highest": max(p.high for _, p in deep)}, "none: mean and std are measured")
        )
    return findings


def _plain(counts: Counter) -> dict[str, int]:
    return {str(key): count for key, count in sorted(counts.items())}
