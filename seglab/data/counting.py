"""How often each class occurs in the masks of a split: counted once, and remembered for masks that have not changed."""

from __future__ import annotations

import hashlib
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from seglab.data.cache import keep, user_cache
from seglab.data.folder_scan import in_threads
from seglab.data.resizing import resize_mask, scaled
from seglab.data.source import Source
from seglab.types import Spec

_CHUNK = 8  # masks a thread takes at once
_SLOW = 4  # a mask takes so many times as long as a header
_DIGEST = 16  # bytes
_VERSION = 1  # raise it when what is kept changes its meaning


class Counts(NamedTuple):
    """Per class: its `pixels` over all images, and the valid pixels of the images that hold it (`present`)."""

    pixels: list[int]
    present: list[int]


class Tally(NamedTuple):
    """`pixels` (N, K) of each class in each mask, and the `valid` ones, not ignored: (N, 1), multilabel (N, K); uint32."""

    pixels: np.ndarray
    valid: np.ndarray


def class_counts(source: Source, split: str) -> Counts:
    """Over all masks of a split, as stored (before augmentation).

    Binary: background and foreground; multilabel: the positives of each class. Ignored pixels count nowhere.
    """
    pixels, valid = tally(source, split)
    present = np.where(pixels > 0, valid, 0).sum(0, dtype=np.int64)
    return Counts(pixels.sum(0, dtype=np.int64).tolist(), present.tolist())


def tally(source: Source, split: str, scale: float = 1.0) -> Tally:
    """The pixels of each class in each mask of a split, resized by `scale` as in training."""
    spec, total = source.spec, len(source.ids(split))
    stamps = np.array([source.stamp(split, index) for index in range(total)], np.int64)
    file = _place(source, split, scale)
    columns = spec.num_classes + (spec.num_classes if spec.mode == "multilabel" else 1)
    table = _recalled(file, stamps, columns + 1)  # the last column: whether the row is known
    missing = np.flatnonzero(table[:, -1] == 0).tolist()

    def count(some: list[int]) -> None:
        for index in some:
            mask = source.load_mask(split, index)
            table[index] = _count(mask if scale == 1 else resize_mask(mask, scaled(mask.shape[:2], scale)), spec)

    chunks = [missing[at : at + _CHUNK] for at in range(0, len(missing), _CHUNK)]
    for _ in in_threads(count, chunks, f"Counting the classes of the {split} masks", _SLOW * len(missing)):
        pass
    if missing and stamps.all():  # without files nothing tells whether a sample has changed
        content = stamps.tobytes() + table.tobytes()
        keep(file, lambda out: out.write(_digest(content) + zlib.compress(content, 1)))
    return Tally(table[:, : spec.num_classes], table[:, spec.num_classes : -1])


def class_pixels(mask: np.ndarray, spec: Spec) -> np.ndarray:
    """The pixels of each class, K. Binary: background and foreground; multilabel: the positives of each class."""
    if spec.mode == "multilabel":
        return np.count_nonzero(mask == 1, axis=(0, 1))
    if mask.dtype == np.uint8 and spec.num_classes <= 256:  # in half the time of bincount
        return np.array(Image.fromarray(mask).histogram()[: spec.num_classes])
    return np.bincount(mask[mask != spec.ignore_index], minlength=spec.num_classes)


def _count(mask: np.ndarray, spec: Spec) -> list[int]:
    """A row of the table: the pixels of each class, the valid ones (multilabel: of each class), and 1: it is known."""
    valid = mask != spec.ignore_index
    counted = np.count_nonzero(valid, axis=(0, 1)) if spec.mode == "multilabel" else [np.count_nonzero(valid)]
    return [*class_pixels(mask, spec), *counted, 1]


def _place(source: Source, split: str, scale: float) -> Path:
    """The file of a split as it is; what it says of each mask counts as long as the mask's stamp is the same."""
    text = repr((_VERSION, source.fingerprint(), split, scale, len(source.ids(split))))
    digest = hashlib.sha256(text.encode())
    for name in source.ids(split):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return user_cache() / f"classes-{digest.hexdigest()[:24]}"


def _recalled(file: Path, stamps: np.ndarray, width: int) -> np.ndarray:
    """The table with the rows that are known; a broken or foreign file is ignored."""
    table = np.zeros((len(stamps), width), np.uint32)
    with suppress(OSError, ValueError, zlib.error):
        content = file.read_bytes()
        kept = zlib.decompress(content[_DIGEST:])
        if len(kept) == stamps.nbytes + table.nbytes and _digest(kept) == content[:_DIGEST]:
            same = (np.frombuffer(kept, np.int64, len(stamps)) == stamps) & (stamps != 0)
            table[same] = np.frombuffer(kept, np.uint32, offset=stamps.nbytes).reshape(table.shape)[same]
    return table


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
