"""Find the image and mask files of a folder and their splits, from names alone."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from seglab.data.compact import Texts
from seglab.data.pairs import Pair as Pair
from seglab.data.pairs import Pairs
from seglab.data.reading import SUFFIXES
from seglab.errors import ConfigError, DataError, nearest
from seglab.types import group_labels

log = logging.getLogger("seglab")
P = TypeVar("P", bound=Sequence[Pair])

IMAGES = ("images", "image", "imgs", "img", "img_dir", "jpegimages")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "segmentationclass", "gt")
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
FIRST = "^[^/]+"  # as data.group: the first part of a name
MASK_ENDINGS = ("_mask", "-mask", "_masks", "_label", "-label", "_labels", "_gt", "-gt", "_seg", "_segmentation")
_HINT = "expected are train/images and train/masks (val and test likewise), or images and masks"


@overload
def find_pairs(root: Path, fractions: Sequence[float] = ..., group: str | None = ...) -> dict[str, Pairs]: ...
@overload
def find_pairs(root: Path, fractions: Sequence[float], group: str | None, match: Callable[[Path, Path], P]) -> dict[str, P]: ...
def find_pairs(root: Path, fractions: Any = (0.7, 0.15, 0.15), group: str | None = None, match: Any = None) -> Any:
    """The pairs of train, val and test, sorted by id; DataError names the file or folder that does not fit.

    Looked for in this order: `train/images` + `train/masks`, `images/train` + `masks/train`, `images` + `masks` with
    split.json, `images` + `masks` split by `fractions` (see `hashed_split`). `match` finds the pairs of a folder of images
    and one of masks (default: `pair`).
    """
    match = match or pair
    splits = subfolders(root, SPLITS)
    inside = {s: (one_of(d, IMAGES), one_of(d, MASKS)) for s, d in splits.items()}
    if any(any(two) for two in inside.values()):
        return _paired({s: _both(splits[s], *two) for s, two in inside.items()}, match)
    images, masks = _both(root, one_of(root, IMAGES), one_of(root, MASKS))
    by_split = subfolders(images, SPLITS)
    inside_images = {e.name for e in os.scandir(images) if not e.name.startswith(".")}
    if by_split and inside_images == {d.name for d in by_split.values()}:
        mask_splits = subfolders(masks, SPLITS)
        for split in by_split:
            if split not in mask_splits:
                raise DataError(
                    f"{by_split[split]} has no counterpart in {masks}; add the folder {masks / by_split[split].name}."
                )
        return _paired({s: (by_split[s], mask_splits[s]) for s in by_split}, match)
    pairs = match(images, masks)
    file = root / "split.json"
    return listed_split(pairs, file) if file.is_file() else hashed_split(pairs, fractions, group)


def pair(images: Path, masks: Path, kinds: tuple[Sequence[str], Sequence[str]] = (SUFFIXES, SUFFIXES)) -> Pairs:
    """Images and masks of equal relative stem, sorted; every image has one mask and every mask one image.

    `kinds` are the suffixes of the ones and of the others.
    """
    pictures, labels = _by_stem(images, kinds[0]), _by_stem(masks, kinds[1])
    for found, folder, suffixes in ((pictures, images, kinds[0]), (labels, masks, kinds[1])):
        if not found:
            raise DataError(f"{folder} holds no {', '.join(suffixes)} file; put the files there or correct data.root.")
    if ending := _ending(pictures, labels, masks):
        labels = {stem.removesuffix(ending): sys.intern(ending + rest) for stem, rest in labels.items()}
    sides = ((pictures, labels, "mask", images, masks), (labels, pictures, "image", masks, images))
    for mine, others, kind, here, there in sides:
        lonely = sorted(stem for stem in mine if stem not in others)
        if lonely:
            more = f" (nor have {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            example = os.path.basename(min(stem + rest for stem, rest in others.items()))
            raise DataError(
                f"{os.path.join(here, lonely[0] + mine[lonely[0]])} has no {kind}{more}: no file of the same stem is in "
                f"{there}, where names look like {example}; add the {kind} or remove the file."
            )
    stems = sorted(pictures)
    files = [Texts((stem + some[stem] for stem in stems), str(at)) for some, at in ((pictures, images), (labels, masks))]
    return Pairs(Texts(stems), *files)


def hashed_split(pairs: P, fractions: Sequence[float], group: str | None = None) -> dict[str, P]:
    """Split by a hash of the id (see `split_numbers`)."""
    ids = pairs.ids if isinstance(pairs, Pairs) else [one.id for one in pairs]
    numbers = split_numbers(ids, fractions, group)
    return {split: _chosen(pairs, np.flatnonzero(numbers == n)) for n, split in enumerate(SPLITS)}


def split_numbers(ids: Sequence[str], fractions: Sequence[float], group: str | None = None) -> np.ndarray:
    """Which of SPLITS each id is in, by its hash, a number in 0..1: an image keeps its split when others are added or removed.

    With `group`, a regular expression (see types.group_labels), by a hash of the group, which so stays in one split.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"data.split={list(fractions)} must be three fractions (train, val, test) that add up to 1.")
    hashes = np.fromiter(map(hashed, ids if group is None else group_labels(ids, group, "data.group")), np.float64, len(ids))
    numbers = (hashes >= fractions[0]).astype(np.int8) + (hashes >= fractions[0] + fractions[1])
    # The hash keeps proportions only roughly, so a handful of images can leave a split empty.
    for n, (split, fraction) in enumerate(zip(SPLITS, fractions, strict=True)):
        if fraction > 0 and not (numbers == n).any():
            log.warning("The %s split of %d images is empty; list the names in split.json to choose them.", split, len(ids))
    return numbers


def _chosen(pairs: Any, positions: np.ndarray) -> Any:
    """Some of the pairs, as they come: Pairs or a list."""
    return pairs.take(positions) if isinstance(pairs, Pairs) else [pairs[n] for n in positions.tolist()]


def hashed(name: str) -> float:
    """A number in 0..1 that follows from the name alone."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big") / 2**64


def listed_split(pairs: P, file: Path) -> dict[str, P]:
    """Split by split.json, {"train": [names], ...}, names with or without suffix; DataError for an unknown or repeated one.

    `pairs` are sorted, and so are those of each split.
    """
    by_name = {one.id: n for n, one in enumerate(pairs)}
    by_name |= {one.id + os.path.splitext(one.image)[1]: n for n, one in enumerate(pairs)}
    names = {alias: split for split, aliases in SPLITS.items() for alias in aliases}
    out: dict[str, list[int]] = {s: [] for s in SPLITS}
    taken: dict[int, str] = {}
    for key, listed in read_json(file, dict).items():
        if key not in names:
            raise DataError(f"{file} has the unknown split '{key}'.{nearest(key, SPLITS)}")
        if not isinstance(listed, list) or not all(isinstance(n, str) for n in listed):
            raise DataError(f"{file}: '{key}' must be a list of file names.")
        for name in listed:
            if name not in by_name:
                known = nearest(name, by_name) if len(by_name) < 2000 else ""
                raise DataError(
                    f"{file} lists '{name}' under '{key}', but no such image exists.{known if 'Did' in known else ''}"
                )
            one = by_name[name]
            if one in taken:
                raise DataError(f"{file} lists '{name}' under '{taken[one]}' and again under '{key}'; keep one of the two.")
            taken[one] = key
            out[names[key]].append(one)
    if not taken:
        raise DataError(f'{file} lists no image; write {{"train": [names], "val": [names], "test": [names]}}.')
    if len(taken) < len(pairs):
        log.info("%s leaves out %d of %d images.", file.name, len(pairs) - len(taken), len(pairs))
    return {s: _chosen(pairs, np.array(sorted(some), np.int64)) for s, some in out.items()}


def read_json(file: Path, kind: type | tuple[type, ...]) -> Any:
    """The content of a JSON file whose top level is of `kind`; DataError names the file and the place."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not valid JSON: {error}.") from error
    if not isinstance(content, kind):
        raise DataError(f"{file} has a {type(content).__name__} at its top level, which is none of the forms it may have.")
    return content


def _paired(folders: dict[str, tuple[Path, Path]], match: Callable[[Path, Path], Any]) -> dict[str, Any]:
    for split in SPLITS.keys() - folders.keys():
        log.info("There is no %s folder, so that split is empty.", split)
    return {s: match(*folders[s]) if s in folders else Pairs.of([]) for s in SPLITS}


def _both(folder: Path, images: Path | None, masks: Path | None) -> tuple[Path, Path]:
    if images is None or masks is None:
        lacking = " and no ".join(n for n, d in (("images", images), ("masks", masks)) if d is None)
        there = ", ".join(sorted(e.name for e in os.scandir(folder) if not e.name.startswith("."))[:8]) or "nothing"
        raise DataError(f"{folder} has no {lacking} folder (it holds {there}); {_HINT}.")
    if (images.name, masks.name) not in (("images", "masks"), ("images", "labels")):
        log.info("In %s the images are taken from '%s', the masks from '%s'.", folder, images.name, masks.name)
    return images, masks


def subfolders(folder: Path, wanted: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """For each key its subfolder, where there is one of the names that it goes by."""
    found = {key: one_of(folder, names) for key, names in wanted.items()}
    return {key: path for key, path in found.items() if path is not None}


def one_of(folder: Path, names: Iterable[str]) -> Path | None:
    """The first subfolder with one of the names (upper or lower case)."""
    there = {e.name.lower(): Path(e.path) for e in os.scandir(folder) if e.is_dir()}
    return next((there[n] for n in names if n in there), None)


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """{relative stem: suffix} of every image file below a folder, hidden ones left out; DataError for two of one stem."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inside = os.path.relpath(place, folder).replace(os.sep, "/")
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if name.startswith(".") or suffix.lower() not in suffixes:
                continue
            key = stem if inside == "." else f"{inside}/{stem}"
            if key in found:
                raise DataError(
                    f"{os.path.join(folder, key + found[key])} and {os.path.join(place, name)} have the same stem, so their "
                    "partner is in doubt; rename or remove one."
                )
            found[key] = sys.intern(suffix)  # one object for a million files
    return found


def without_ending(pictures: dict[str, str], labels: dict[str, str], folder: Path) -> dict[str, str]:
    """The masks by the stem of their image, when all of them carry the same ending such as _mask."""
    ending = _ending(pictures, labels, folder)
    return {stem.removesuffix(ending): path for stem, path in labels.items()}


def _ending(pictures: Iterable[str], labels: Iterable[str], folder: Path) -> str:
    for ending in MASK_ENDINGS:
        if all(s.endswith(ending) for s in labels) and not all(s.endswith(ending) for s in pictures):
            log.info("All masks in %s end in '%s', which is left out to pair them with the images.", folder, ending)
            return ending
    return ""
