"""Classes and objects by split: what is never seen, seen in one split only, rare, void, or too small for `data.scale`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from seglab.data.checks.findings import Finding, Severity, many, named, percent, said
from seglab.data.checks.looks import Label, Look, Plane
from seglab.data.checks.meaning import VOID, Meaning

_RARE, _VOID, _VANISH, _CONSTANT = 0.001, 0.3, 0.01, 0.5


@dataclass
class Row:
    """One class in one split: its pixels, the images that show it, its objects (None: not told apart), their median area."""

    pixels: int = 0
    images: int = 0
    objects: int | None = 0
    area: float | None = None


@dataclass
class Share:
    """One split: its images, its pixels, of these void; a row for each class; {area: objects} for each class.

    mean, std: of each channel over all pixels, on the scale 0..1; empty where images differ in channels.
    """

    images: int = 0
    pixels: int = 0
    void: int = 0
    rows: list[Row] = field(default_factory=list)
    areas: list[Counter[int]] = field(default_factory=list)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain numbers for JSON; `sizes` of a class counts its objects of 1, 2-3, 4-7, 8-15 ... pixels."""
        rows = {
            name: {**asdict(row), "sizes": _octaves(areas)}
            for name, row, areas in zip(classes, self.rows, self.areas, strict=True)
        }
        told = {"images": self.images, "pixels": self.pixels, "void": self.void}
        return {**told, "mean": list(self.mean), "std": list(self.std), "classes": rows}


def _octaves(areas: Counter[int]) -> list[int]:
    counts = [0] * max((size.bit_length() for size in areas), default=0)
    for size, n in areas.items():
        counts[size.bit_length() - 1] += n
    return counts


def count(looks: Mapping[str, Sequence[Look]], meaning: Meaning) -> dict[str, Share]:
    """Pixels, images and objects of each class in each split."""
    return {split: _share(some, meaning) for split, some in looks.items()}


def _share(looks: Sequence[Look], meaning: Meaning) -> Share:
    classes = range(len(meaning.classes))
    share = Share(len(looks), rows=[Row() for _ in classes], areas=[Counter() for _ in classes])
    share.mean, share.std = _tone(looks)
    for look in looks:
        if look.label is None:
            continue
        shown = set[int]()
        for k, plane in enumerate(look.label.planes):
            share.pixels += sum(plane.values.values())
            for value, pixels in plane.values.items():
                of = meaning.of(look.label, value)
                if of == VOID:
                    share.void += pixels
                of = _class(of, k, meaning, look.label)
                if of is not None:
                    share.rows[of].pixels += pixels
                    shown.add(of)
            _add_objects(share, look.label, plane, k, meaning)
        for of in shown:
            share.rows[of].images += 1
    for row, areas in zip(share.rows, share.areas, strict=True):
        if row.objects is not None:
            row.objects, row.area = sum(areas.values()), _median(areas)
    return share


def _tone(looks: Sequence[Look]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pictures = [look.picture for look in looks if look.picture]
    if len({picture.channels for picture in pictures}) != 1:
        return (), ()
    mean, std = (np.array([getattr(picture, what) for picture in pictures]) for what in ("mean", "std"))
    weight = np.array([picture.height * picture.width for picture in pictures], np.float64)
    middle = np.average(mean, 0, weight)
    spread = np.sqrt(np.average(std**2 + (mean - middle) ** 2, 0, weight))
    return tuple(middle.tolist()), tuple(spread.tolist())


def _class(of: int | None, plane: int, meaning: Meaning, label: Label) -> int | None:
    """The class of a stored value's class id; in layers it is the plane's where that is 1."""
    if meaning.mode == "multilabel" and label.kind == "layers":
        return plane if of == 1 and plane < len(meaning.classes) else None
    return of if of is not None and 0 <= of < len(meaning.classes) else None


def _add_objects(share: Share, label: Label, plane: Plane, k: int, meaning: Meaning) -> None:
    if meaning.by_id:  # each id is one object, of as many pixels as it has
        areas = {v: {n: 1} for v, n in plane.values.items()}
    elif plane.areas is None:
        for row in share.rows:
            row.objects = None
        return
    else:
        areas = plane.areas
    for value, sizes in areas.items():
        of = _class(meaning.of(label, value), k, meaning, label)
        if of is not None and of not in meaning.backgrounds:
            share.areas[of].update(sizes)


def _median(areas: Counter[int]) -> float | None:
    sizes = sorted(areas)
    if not sizes:
        return None
    upto = np.cumsum([areas[size] for size in sizes])
    return float(sizes[int(np.searchsorted(upto, (upto[-1] + 1) / 2))])


def of_classes(shares: Mapping[str, Share], meaning: Meaning) -> list[Finding]:
    """Findings about what classes the splits show."""
    there = {split: share for split, share in shares.items() if share.images}
    pixels = [sum(share.rows[k].pixels for share in there.values()) for k in range(len(meaning.classes))]
    total, nowhere = sum(share.pixels for share in there.values()), sum(share.void for share in there.values())
    found = []
    never = [name for name, n in zip(meaning.classes, pixels, strict=True) if not n]
    if never and any(pixels):
        text = f"No mask shows {named(never)} ({len(never)} of {len(pixels)} classes)."
        remedy = "correct the masks, or leave the class out of data.classes"
        found.append(Finding("warning", "class_never_seen", text, (), {"classes": never}, remedy))
    found += _one_sided(there, meaning, pixels)
    labelled = max(1, total - nowhere if meaning.mode != "multilabel" else total // max(1, len(pixels)))
    rare = {name: n / labelled for name, n in zip(meaning.classes, pixels, strict=True) if 0 < n < _RARE * labelled}
    if rare:
        text = f"Rare: {', '.join(f'{name} has {percent(share)} of the pixels' for name, share in rare.items())}."
        found.append(Finding("info", "rare_class", text, (), {"share": rare}, "loss.ce.class_weights=effective"))
    return [*found, *void(there, meaning)]


def void(shares: Mapping[str, Share], meaning: Meaning) -> list[Finding]:
    """How many pixels count nowhere."""
    total, nowhere = sum(share.pixels for share in shares.values()), sum(share.void for share in shares.values())
    if not nowhere:
        return []
    severity: Severity = "warning" if nowhere > _VOID * total else "info"
    text = f"{percent(nowhere / total)} of all pixels are void (ignore_index {meaning.ignore}) and count nowhere."
    return [Finding(severity, "void", text, (), {"share": nowhere / total})]


def _one_sided(there: Mapping[str, Share], meaning: Meaning, pixels: Sequence[int]) -> list[Finding]:
    found: list[Finding] = []
    if "train" not in there or len(there) < 2:
        return found
    for kind, severity, words, remedy in (
        ("class_not_trained", "warning", "Not in train, only in {}: {}", "move images that show it into train"),
        ("class_not_scored", "info", "In train, but in {} never: {}", "move images that show it, or read no score for it"),
    ):
        others = [split for split in there if split != "train"]
        for split in [others] if kind == "class_not_trained" else [[s] for s in others]:
            names = [
                name
                for k, name in enumerate(meaning.classes)
                if pixels[k]
                and (there["train"].rows[k].pixels > 0) == (kind == "class_not_scored")
                and (kind == "class_not_trained" or not there[split[0]].rows[k].pixels)
            ]
            if names:
                text = f"{words.format(' and '.join(split), named(names))}."
                found.append(Finding(severity, kind, text, (), {"classes": names, "splits": split}, remedy))  # type: ignore[arg-type]
    return found


def constant(looks: Sequence[Look], meaning: Meaning) -> list[Finding]:
    """Masks with one value everywhere."""
    masks = [(look.mask, look.label) for look in looks if look.label]
    flat = tuple(path for path, label in masks if all(len(plane.values) == 1 for plane in label.planes))
    if not flat:
        return []
    much = len(flat) > _CONSTANT * len(masks)
    text = f"Of {len(masks)} masks, {said(len(flat), 'holds', 'hold')} one value everywhere: {named(flat)}."
    severity: Severity = "warning" if much else "info"
    return [
        Finding(
            severity,
            "constant_mask",
            text,
            flat,
            {"masks": len(flat)},
            "look whether these images show nothing" if much else "",
        )
    ]


def vanishing(shares: Mapping[str, Share], meaning: Meaning, scale: float) -> list[Finding]:
    """Objects of less than one pixel once images are resized by `data.scale`."""
    if not 0 < scale < 1:
        return []
    areas = [sum((share.areas[k] for share in shares.values()), Counter[int]()) for k in range(len(meaning.classes))]
    lost = {
        name: sum(n for size, n in one.items() if size * scale**2 < 1) for name, one in zip(meaning.classes, areas, strict=True)
    }
    count, total = sum(lost.values()), sum(sum(one.values()) for one in areas)
    if not count:
        return []
    worst = [name for name, n in sorted(lost.items(), key=lambda item: -item[1]) if n]
    text = (
        f"{many(count, 'object')} of {total} ({percent(count / total)}) are smaller than a pixel at data.scale={scale:g}, "
        f"most of {named(worst)}."
    )
    severity: Severity = "warning" if count > _VANISH * total else "info"
    return [Finding(severity, "vanishing_objects", text, (), {"objects": lost, "of": total}, "data.scale=1.0")]
