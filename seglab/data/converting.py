"""Write any data set as the folders that `data=folder` reads, so that it gives the same samples."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from seglab.data.coco import Coco
from seglab.data.converting_files import safe, write_image, write_mask, write_objects
from seglab.data.folder import Folder
from seglab.data.folder_scan import in_threads
from seglab.data.layout import SPLITS
from seglab.data.mask_rules import Rules
from seglab.data.paired import Paired
from seglab.data.selection import Selected
from seglab.data.source import Source
from seglab.errors import DataError, SeglabError, shown
from seglab.types import Spec

_CHUNK = 16  # images


@dataclass(frozen=True)
class Converted:
    """What was written: images by split, bytes, the settings that data=folder needs, and what could not be kept."""

    counts: dict[str, int]
    bytes: int
    settings: tuple[str, ...]
    lost: tuple[str, ...]


def convert(source: Source, target: Path) -> Converted:
    """Write `target`/{train,val,test}/{images,masks} and classes.json, whole or not at all.

    Image files that hold what `source` gives are copied as they are. DataError if `target` exists, if an image's name leads
    outside, or if data=folder would not give the same classes and images.
    """
    ids = {split: list(source.ids(split)) for split in SPLITS}
    if not any(ids.values()):
        raise DataError(f"The data set '{source.name}' has no image, so that there is nothing to write.")
    for some in ids.values():
        for name in some:
            safe(name)
    with _whole(target) as folder:
        written = sum(_written(source, folder, ids))
        (folder / "classes.json").write_text(_classes(source.spec), encoding="utf-8")
        found = _verified(source, folder, ids)
    settings = tuple(f"data.{key}={str(value).lower()}" for key, value in found.items())
    return Converted({s: len(some) for s, some in ids.items() if some}, written, settings, _lost(source))


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name in the end, or is gone."""
    if os.path.lexists(target):
        raise DataError(f"{shown(target)} exists; name a folder that does not, or remove it.")
    if not target.parent.is_dir():
        raise DataError(f"{shown(target.parent)} is no folder; make it, or name another place.")
    around = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        folder = around / "whole"  # with the rights that the user's new folders have; mkdtemp's has fewer
        folder.mkdir()
        yield folder
        os.rename(folder, target)
    finally:
        shutil.rmtree(around, ignore_errors=True)


def _written(source: Source, folder: Path, ids: dict[str, list[str]]) -> Iterator[int]:
    """Write all pairs; the bytes of each few."""
    chunks = [(s, range(n, min(n + _CHUNK, len(some)))) for s, some in ids.items() for n in range(0, len(some), _CHUNK)]

    def write(chunk: tuple[str, range]) -> int:
        split, numbers = chunk
        return sum(_pair(source, split, n, folder / split, ids[split][n]) for n in numbers)

    with closing(in_threads(write, chunks, "Writing", 4 * sum(map(len, ids.values())))) as done:  # type: ignore[type-var]
        yield from done


def _pair(source: Source, split: str, index: int, folder: Path, name: str) -> int:
    sample = source.load(split, index)
    stem = folder / "images" / name
    size = write_image(sample["image"], stem, image_file(source, split, index))
    stem = folder / "masks" / name
    if _of_objects(source):
        return size + write_objects(sample, source.spec, stem)
    return size + write_mask(sample["mask"], source.spec, stem)


def image_file(source: Source, split: str, index: int) -> str | None:
    """The path or locator of an image's file; None where images are no files."""
    if isinstance(source, Selected):
        return image_file(source.source, *source.places[split][index])
    if isinstance(source, Paired):
        return source.pairs[split][index].image
    return source.image_file(split, index) if isinstance(source, Coco) else None


def _of_objects(source: Source) -> bool:
    """Whether data=folder can tell these objects apart: one class, and masks that hold their ids."""
    rules = getattr(source.source if isinstance(source, Selected) else source, "rules", None)
    return isinstance(rules, Rules) and rules.instances


def _classes(spec: Spec) -> str:
    rows = {"classes": list(spec.classes), "ignore_index": spec.ignore_index, "palette": [list(c) for c in spec.colors]}
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in rows.items())
    return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def _verified(source: Source, folder: Path, ids: dict[str, list[str]]) -> dict[str, str | bool]:
    """The settings with which data=folder finds what was meant; DataError if there are none."""
    tries: tuple[dict[str, str | bool], ...] = ({}, {"mode": source.spec.mode})
    if _of_objects(source):
        tries = ({"foreground": True},)
    log = logging.getLogger("seglab")
    level, why = log.level, ""
    log.setLevel(logging.ERROR)  # what data=folder would tell of the folder is no news
    try:
        for settings in tries:
            try:
                why = _difference(Folder(folder, mean=source.spec.mean, std=source.spec.std, **settings), source.spec, ids)  # type: ignore[arg-type]
            except SeglabError as error:
                why = str(error).replace(f"{folder}{os.sep}", "")
            if not why:
                return settings
    finally:
        log.setLevel(level)
    raise DataError(f"data=folder cannot hold '{source.name}': {why}")


def _difference(found: Source, spec: Spec, ids: dict[str, list[str]]) -> str:
    """What data=folder does not find as it was meant; nothing if it does."""
    for key in ("classes", "mode", "ignore_index", "channels", "colors", "instances"):
        here, there = getattr(found.spec, key), getattr(spec, key)
        if here != there and (key != "instances" or here):
            return f"its {key} would be {here}, not {there}."
    odd = next((split for split, some in ids.items() if list(found.ids(split)) != sorted(some)), None)
    return f"two images of {odd} have the same name." if odd else ""


def _lost(source: Source) -> tuple[str, ...]:
    """What data=folder does not know."""
    objects = source.spec.instances and not _of_objects(source)
    return ("single objects: data=folder has the map of classes only",) if objects else ()
