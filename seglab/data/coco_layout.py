"""Find the JSON files of a COCO data set and the folders of their images, from names alone."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.data.layout import IMAGES, SPLITS
from seglab.errors import ConfigError, DataError, nearest

log = logging.getLogger("seglab")

ALL = "all"  # the key of the only file, whose images are then split by hash
_EXPORT = "_annotations.coco.json"  # Roboflow's name, beside the images
_PLACES = ("annotations", "annotation")
_HINT = (
    "expected are annotations/instances_train.json, train/_annotations.coco.json (val and test likewise) or one JSON file; "
    "name them by data.train, data.val and data.test"
)


def existing(root: Any) -> Path:
    """The folder `root`; Config- or DataError unless it exists."""
    if not root:
        raise ConfigError("data.root is not set; name the folder of the JSON files and images: data=coco data.root=DIR.")
    folder = Path(root).expanduser()
    if folder.is_file():
        raise DataError(f"data.root={root} is a file; name the (unpacked) folder, and the file by data.train.")
    if not folder.is_dir():
        raise DataError(f"data.root={root} does not exist; correct the path.{_near(folder)}")
    return folder


def find_files(root: Path, told: Mapping[str, str | None]) -> dict[str, Path]:
    """The JSON file of each split that has one, or {"all": file} for the only one; DataError says what is there instead.

    Told files come first. Others are looked for in `annotations`, in folders of a split's name, and in `root`.
    """
    named = {split: _told(root, split, name) for split, name in told.items() if name}
    found = {s: some for s, some in _by_split(root).items() if s not in named}
    for split, some in found.items():
        found[split] = [file for file in some if file not in named.values()]
        if len(found[split]) > 1 and (split or not named):
            names = ", ".join(str(file.relative_to(root)) for file in found[split][:8])
            whose = f"data.{split}" if split else "data.train, data.val and data.test"
            raise DataError(f"{root} has several JSON files for {split or 'no split'} ({names}); choose by {whose}.")
    files = {split: some[0] for split, some in found.items() if some and (split or not named)} | named
    if not files:
        raise DataError(f"{root} holds no COCO JSON file (it holds {_content(root)}); {_HINT}.")
    if len(files) == 1 and not named.keys() & {"val", "test"}:
        file = next(iter(files.values()))
        log.info("%s is the only JSON file; its images are split by data.split.", file)
        return {ALL: file}
    for split in SPLITS:
        if split not in files:
            log.info("There is no JSON file for %s, so that split is empty.", split)
    return {split: files[split] for split in SPLITS if split in files}


def image_folders(root: Path, file: Path, split: str, told: str | Sequence[str] | Mapping[str, str] | None) -> list[str]:
    """The folders, in the order in which the file's images are looked for; with `told`, those alone."""
    if told:
        return [str(_folder(root, name)) for name in _names(told, split)]
    stem = file.stem.removeprefix("instances_")
    split = _split_of(file.stem) or _split_of(file.parent.name) or split
    beside = [file.parent, file.parent / "images", file.parent / "data"]
    own = [root / stem, *_of_split(root, split)]
    inside = [root / "images" / stem, *_of_split(root / "images", split)]
    rest = [root / name for name in (*IMAGES, "JPEGImages", "data")]
    folders = [*beside, *own, *(one / "images" for one in own), *inside, *rest, root]
    return [str(one) for one in dict.fromkeys(folders) if one.is_dir()]


def _names(told: Any, split: str) -> Iterable[str]:
    if isinstance(told, Mapping):
        for key in told:
            if key not in SPLITS:
                raise ConfigError(f"data.images has the unknown split '{key}'.{nearest(key, SPLITS)}")
        if split == ALL:
            raise ConfigError("data.images names folders by split, but there is one JSON file only; give one folder or a list.")
        if split not in told:
            raise ConfigError(f"data.images names no folder for {split}; add {split}: FOLDER, or give one folder for all.")
        told = told[split]
    return [told] if isinstance(told, str) else told


def _folder(root: Path, name: str) -> Path:
    folder = root / Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.images={name} is no folder of {root}; correct it, or leave it out.{_near(folder)}")
    return folder


def _told(root: Path, split: str, name: str) -> Path:
    file = root / Path(name).expanduser()
    if not file.is_file():
        raise DataError(f"data.{split}={name} is no file of {root}; correct the path, which starts there.{_near(file)}")
    return file


def _by_split(root: Path) -> dict[str, list[Path]]:
    """The files of the first place that has any, by split; by '' if no name tells one."""
    for place in _PLACES:
        files = _json(root / place)
        if files:
            return _grouped(files)
    inside = {split: [_export(d) for d in _of_split(root, split)] for split in SPLITS}
    exports = {split: [file for file in some if file] for split, some in inside.items()}
    return exports if any(exports.values()) else _grouped(_json(root))


def _grouped(files: list[Path]) -> dict[str, list[Path]]:
    """By the split in the name. Where some are called instances..., the rest are captions, key points and the like."""
    files = [file for file in files if file.stem.startswith("instances")] or files
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.stem), []).append(file)
    if len(by_split) > 1:
        by_split.pop("", None)
    return by_split


def _export(folder: Path) -> Path | None:
    """The JSON file that an export put beside its images, or none; one for each image is another format."""
    if (folder / _EXPORT).is_file():
        return folder / _EXPORT
    files = _json(folder)
    return files[0] if len(files) == 1 else None


def _json(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (Path(e.path) for e in os.scandir(folder) if e.name.lower().endswith(".json") and not e.name.startswith("."))
    return sorted(file for file in files if file.is_file())


def _split_of(name: str) -> str:
    """The split that one of the name's words tells; '' if none does, or two do (train_val)."""
    words = {word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    found = [split for split, aliases in SPLITS.items() if words & set(aliases)]
    return found[0] if len(found) == 1 else ""


def _of_split(place: Path, split: str) -> list[Path]:
    """The folders whose name tells the split, sorted."""
    if split not in SPLITS or not place.is_dir():
        return []
    return sorted(Path(e.path) for e in os.scandir(place) if e.is_dir() and _split_of(e.name) == split)


def _content(folder: Path) -> str:
    there = sorted(e.name for e in os.scandir(folder) if not e.name.startswith("."))
    return f"{', '.join(there[:8])}{', ...' if len(there) > 8 else ''}" or "nothing"


def _near(path: Path) -> str:
    near = sorted(e.name for e in os.scandir(path.parent)) if path.parent.is_dir() else []
    hint = nearest(path.name, near)
    return hint if "Did" in hint else f" Relative paths start at {Path.cwd()}." if not path.is_absolute() else ""
