"""The files of a converted data set: images copied or written anew, masks as PNG, or TIFF where a PNG cannot hold them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from seglab.data.reading import SUFFIXES, read_header, read_image
from seglab.data.shards_bytes import part_of, read_bytes
from seglab.errors import DataError, visible
from seglab.types import Sample, Spec

_SUFFIX = {"png": ".png", "jpeg": ".jpg", "bmp": ".bmp", "tiff": ".tif", "webp": ".webp"}
_TO_BGR = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}


def safe(name: str) -> None:
    """DataError unless a file may be called by the name: below its folder, and where data=folder sees it."""
    parts = name.split("/")
    if "" in parts or ".." in parts or "." in parts or "\0" in name or "\\" in name or re.match("[A-Za-z]:", name):
        raise DataError(f"The image '{visible(name)}' has a name that leads outside of the folder; give it another one.")
    if any(part.startswith(".") for part in parts):
        raise DataError(f"The image '{visible(name)}' would be a hidden file, which data=folder leaves out; rename it.")


def write_image(image: np.ndarray, stem: Path, origin: str | None) -> int:
    """Write `image` (H W C) as `stem` and a suffix: the file `origin` itself if it holds the same; the bytes written."""
    suffix = _same(image, origin) if origin else None
    if origin and suffix:
        path = _new(stem, suffix)
        if part_of(origin):
            _put(path, read_bytes(origin))
        else:
            shutil.copyfile(origin, path)
        return path.stat().st_size
    if image.dtype == np.uint8 and image.shape[2] in (1, 3, 4):
        return _png(cv2.cvtColor(image, _TO_BGR[image.shape[2]]) if image.shape[2] > 1 else image, stem)
    return _tiff(image, stem)


def write_mask(mask: np.ndarray, spec: Spec, stem: Path) -> int:
    """Write class ids, H W (multilabel H W K), in the smallest type that holds all of the data set's; the bytes written."""
    top = 1 if spec.mode == "multilabel" else spec.num_classes - 1
    kind = _holds(min(0, spec.ignore_index), max(top, spec.ignore_index))
    return _png(mask.astype(kind), stem) if mask.ndim == 2 and kind != np.int32 else _tiff(mask.astype(kind), stem)


def write_objects(sample: Sample, spec: Spec, stem: Path) -> int:
    """Write ids of objects (0 none), and the data set's ignore_index where the mask has it; the bytes written."""
    ids = sample["instances"].astype(np.int32)
    if ids.max(initial=0) > 65535 or (ids == spec.ignore_index).any():  # as new numbers, of which none means 'ignore'
        names, found = np.unique(ids, return_inverse=True)
        fresh = np.arange(len(names) + 2) if names[0] == 0 else np.arange(1, len(names) + 3)
        ids = fresh[fresh != spec.ignore_index][found.reshape(sample["mask"].shape)].astype(np.int32)
    ids = np.where(sample["mask"] == spec.ignore_index, np.int32(spec.ignore_index), ids)
    kind = _holds(int(ids.min()), int(ids.max()))
    return _png(ids.astype(kind), stem) if kind != np.int32 else _tiff(ids.astype(kind), stem)


def _holds(low: int, high: int) -> type:
    if low < 0 or high > 65535:
        return np.int32
    return np.uint8 if high < 256 else np.uint16


def _same(image: np.ndarray, origin: str) -> str | None:
    """The suffix under which a copy of the file gives this image; None if it would not."""
    try:
        stored = read_image(origin)
        kind = read_header(origin).format
    except DataError:  # of a format that has a reader of its own
        return None
    if stored.dtype == np.uint8 and image.dtype == np.float32:  # where others of the data set are float, as data=folder does it
        stored = stored.astype(np.float32) / np.float32(255)
    if stored.dtype != image.dtype or not np.array_equal(stored, image):
        return None
    part = part_of(origin)
    suffix = os.path.splitext(part.name if part else origin)[1].lower()
    return suffix if suffix in SUFFIXES else _SUFFIX[kind]


def _png(pixels: np.ndarray, stem: Path) -> int:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return _put(_new(stem, ".png"), data.tobytes())


def _tiff(pixels: np.ndarray, stem: Path) -> int:
    path = _new(stem, ".tif")
    plain = pixels.ndim == 2 or pixels.shape[2] == 1
    # For several channels `contig` makes the file say which axis they are.
    told: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", **({} if plain else {"planarconfig": "contig"})}
    with path.open("xb") as file:
        tifffile.imwrite(file, pixels.reshape(pixels.shape[:2]) if plain else pixels, **told)
    return path.stat().st_size


def _put(path: Path, data: bytes) -> int:
    with path.open("xb") as file:
        return file.write(data)


def _new(stem: Path, suffix: str) -> Path:
    """The path of a file that is not there yet."""
    path = stem.with_name(stem.name + suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"The images '{visible(stem.name)}' and another need one name for a file and a folder.") from error
    if path.exists():  # where upper and lower case are the same
        raise DataError(f"Two images would be called {visible(path.name)}; rename one of them.")
    return path
