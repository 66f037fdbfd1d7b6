"""Find images and masks as layout.find_pairs does, but go on at every problem and list them all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seglab.data.checks.findings import Finding, many, named, said
from seglab.data.layout import (
    IMAGES,
    MASKS,
    SPLITS,
    Pair,
    hashed_split,
    one_of,
    read_json,
    subfolders,
    without_ending,
)
from seglab.data.reading import SUFFIXES
from seglab.errors import DataError


@dataclass
class Found:
    """The pairs that are whole, by split; how the splits came about (folders, list or hash); and what is wrong."""

    pairs: dict[str, list[Pair]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    by: str = "folders"
    findings: list[Finding] = field(default_factory=list)
    problems: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # (kind, of what) -> files


def find(root: Path, fractions: Sequence[float], group: str | None) -> Found:
    """All pairs below `root`, and findings for all that does not pair up."""
    found = Found()
    splits = subfolders(root, SPLITS)
    inside = {s: (one_of(d, IMAGES), one_of(d, MASKS)) for s, d in splits.items()}
    if any(any(two) for two in inside.values()):
        for split, two in inside.items():
            found.pairs[split] = _both(found, root, splits[split].name, *two)
    else:
        images, masks = one_of(root, IMAGES), one_of(root, MASKS)
        by_split = subfolders(images, SPLITS) if images else {}
        if (
            by_split
            and masks
            and {e.name for e in os.scandir(images) if e.name[0] != "."} == {d.name for d in by_split.values()}
        ):
            mask_splits = subfolders(masks, SPLITS)
            for split, folder in by_split.items():
                where = f"{masks.name}/{folder.name}"
                found.pairs[split] = _both(found, root, where, folder, mask_splits.get(split))
        else:
            pairs = _both(found, root, "data.root", images, masks)
            _divide(found, root, pairs, fractions, group)
    found.findings += [_told(kind, what, files) for (kind, what), files in found.problems.items()]
    return found


def _divide(found: Found, root: Path, pairs: list[Pair], fractions: Sequence[float], group: str | None) -> None:
    file = root / "split.json"
    try:
        if file.is_file():
            found.by = "list"
            found.pairs = _listed(found, pairs, file)
            return
        found.by = "hash"
        found.pairs = hashed_split(pairs, fractions, group) if pairs else found.pairs
    except DataError as error:
        kind = "split_file" if found.by == "list" else "group"
        found.findings.append(Finding("error", kind, str(error), (file.name,) if found.by == "list" else ()))
        found.by = "hash"
        found.pairs = hashed_split(pairs, fractions) if pairs else found.pairs


def _listed(found: Found, pairs: list[Pair], file: Path) -> dict[str, list[Pair]]:
    """Splits by split.json; names without a whole pair, unknown and repeated ones are told and left out."""
    by_name = {one.id: one for one in pairs}
    by_name |= {one.id + Path(one.image).suffix: one for one in pairs}
    half = {os.path.splitext(os.path.basename(path))[0] for files in found.problems.values() for path in files}
    names = {alias: split for split, aliases in SPLITS.items() for alias in aliases}
    taken: dict[str, str] = {}
    out: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    unknown, twice = list[str](), list[str]()
    for key, listed in read_json(file, dict).items():
        if key not in names or not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{file.name}: '{key}' must be train, val or test with a list of file names.")
        for name in listed:
            if name not in by_name:
                unknown += [] if os.path.splitext(os.path.basename(name))[0] in half else [name]
            elif by_name[name].id in taken:
                twice.append(name)
            else:
                taken[by_name[name].id] = key
                out[names[key]].append(by_name[name])
    for words, bad in (("which do not exist", unknown), ("twice", twice)):
        if bad:
            text = f"{file.name} lists {many(len(bad), 'name')} {words}: {named(bad)}."
            found.findings.append(Finding("error", "split_file", text, tuple(bad), {"names": len(bad)}, "correct split.json"))
    left = [one.id for one in pairs if one.id not in taken]
    if left:
        text = f"{file.name} leaves out {len(left)} of {many(len(pairs), 'image')}: {named(left)}."
        found.findings.append(Finding("info", "left_out", text, tuple(left), {"images": len(left)}))
    return {split: sorted(some) for split, some in out.items()}


def _both(found: Found, root: Path, where: str, images: Path | None, masks: Path | None) -> list[Pair]:
    sides: list[dict[str, str] | None] = []
    for path, what, known in ((images, "images", IMAGES), (masks, "masks", MASKS)):
        if path is None:
            text = f"There is no folder of {what} in {where} (named {', '.join(known[:4])} or alike)."
            found.findings.append(Finding("error", "no_folder", text, (), {"where": where}, f"add the folder of {what}"))
            sides.append(None)
        else:
            sides.append(_by_stem(found, root, path, what[:-1]))
    pictures, labels = sides
    if pictures and labels:
        assert masks is not None
        labels = without_ending(pictures, labels, masks)
    pictures, labels = pictures or {}, labels or {}
    for kind, mine, others in (("no_mask", pictures, labels), ("no_image", labels, pictures)):
        lonely = [path for stem, path in sorted(mine.items()) if stem not in others]
        if lonely and images and masks:
            found.problems.setdefault((kind, ""), []).extend(os.path.relpath(path, root) for path in lonely)
    return [Pair(stem, pictures[stem], labels[stem]) for stem in sorted(pictures) if stem in labels]


def _by_stem(found: Found, root: Path, folder: Path, what: str) -> dict[str, str]:
    """{relative stem: path} below a folder; further files of one stem and files of other formats are noted."""
    stems: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        for name in sorted(f for f in files if not f.startswith(".")):
            path, (stem, suffix) = os.path.join(place, name), os.path.splitext(name)
            key = stem if inside == "." else f"{inside}/{stem}"
            if suffix.lower() not in SUFFIXES:
                found.problems.setdefault(("other_files", what), []).append(os.path.relpath(path, root))
            elif key in stems:
                both = [os.path.relpath(one, root) for one in (stems[key], path)]
                found.problems.setdefault(("same_stem", what), []).extend(both)
            else:
                stems[key] = path
    if not stems:
        text = f"{os.path.relpath(folder, root)} holds no image file ({', '.join(SUFFIXES)})."
        found.findings.append(
            Finding("error", "empty_folder", text, (os.path.relpath(folder, root),), {}, "put the files there")
        )
    return stems


def _told(kind: str, what: str, files: list[str]) -> Finding:
    count, some = len(files), named(files)
    evidence = {"files": count}
    if kind == "no_mask":
        text = f"{said(count, 'image has', 'images have')} no mask of the same stem: {some}."
        return Finding("error", kind, text, tuple(files), evidence, "add the masks, or remove the images")
    if kind == "no_image":
        text = f"{said(count, 'mask has', 'masks have')} no image of the same stem: {some}."
        return Finding("error", kind, text, tuple(files), evidence, "add the images, or remove the masks")
    if kind == "same_stem":
        text = f"{count} {what} files share a stem with another, so that their partner is in doubt: {some}."
        return Finding("error", kind, text, tuple(files), evidence, "rename or remove all but one of each stem")
    text = f"Among the {what}s {said(count, 'file is', 'files are')} of a format that is not read: {some}."
    return Finding("info", kind, text, tuple(files), evidence, f"formats are {', '.join(SUFFIXES)}")
