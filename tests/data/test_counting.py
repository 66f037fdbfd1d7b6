"""Pixels per class: against a plain loop, for every mode, and whatever the threads do."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.data.cache import user_cache
from seglab.data.cells import Cells
from seglab.data.counting import class_counts, class_pixels, tally
from seglab.data.folder import Folder
from seglab.data.source import Source
from seglab.errors import DataError
from seglab.types import Mode, Sample, Spec


class Drawn(Source):
    """Random masks of several sizes; class 1 (of 3) is absent from every second image."""

    name = "drawn"

    def __init__(self, mode: Mode, ignore: int = 255, dtype: Any = np.uint8, images: int = 20) -> None:
        self.spec = Spec(("a", "b") if mode == "binary" else ("a", "b", "c"), mode=mode, ignore_index=ignore)
        rng = np.random.default_rng(0)
        self.masks = []
        for i in range(images):
            size = (*rng.integers(1, 9, 2), *((3,) if mode == "multilabel" else ()))
            top = 2 if mode == "multilabel" else self.spec.num_classes
            mask = rng.integers(0, top, size).astype(dtype)
            if i % 2:
                mask[mask == 1] = 0
            mask[rng.random(size) < 0.2] = ignore
            self.masks.append(mask)
        self.reads: list[int] = []

    def ids(self, split: str) -> list[str]:
        return [str(i) for i in range(len(self.masks))]

    def sizes(self, split: str) -> list[tuple[int, int]]:
        return [m.shape[:2] for m in self.masks]

    def load(self, split: str, index: int) -> Sample:
        time.sleep(0.002 * (index % 3))
        self.reads.append(index)
        mask = self.masks[index]
        return {"image": np.zeros((*mask.shape[:2], 3), np.uint8), "mask": mask, "id": str(index), "size": mask.shape[:2]}


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(("ignore", "dtype"), [(255, np.uint8), (-1, np.int32), (65535, np.int32)])
def test_counts_equal_a_loop_and_every_mask_is_read_once(mode: Mode, ignore: int, dtype: Any) -> None:
    source = Drawn(mode, ignore, dtype)
    pixels, present = [0] * source.spec.num_classes, [0] * source.spec.num_classes
    for mask in source.masks:
        for k in range(source.spec.num_classes):
            layer = (mask[..., k] if mode == "multilabel" else mask).ravel().tolist()
            here = sum(v == (1 if mode == "multilabel" else k) for v in layer)
            pixels[k] += here
            present[k] += sum(v != ignore for v in layer) if here else 0
    counts = class_counts(source, "train")
    assert counts == (pixels, present)
    assert all(type(n) is int for some in counts for n in some)
    assert sorted(source.reads) == list(range(20))


def test_bytes_hold_no_more_than_256_classes() -> None:
    spec = Spec(tuple(f"c{n}" for n in range(300)), ignore_index=65535)
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert class_pixels(mask, spec).tolist() == [1] * 256 + [0] * 44
    assert class_pixels(mask % 2, Spec(("a", "b"))).tolist() == [128, 128]


def test_all_ignored_and_no_images() -> None:
    source = Drawn("multiclass", images=3)
    for mask in source.masks:
        mask[:] = 255
    assert class_counts(source, "train") == ([0, 0, 0], [0, 0, 0])
    assert class_counts(Drawn("multiclass", images=0), "train") == ([0, 0, 0], [0, 0, 0])


def test_the_masks_alone_are_read_where_a_source_has_them() -> None:
    source = Drawn("multiclass")
    expected = class_counts(source, "train")
    source.load_mask = lambda split, index: source.masks[index]  # type: ignore[attr-defined]
    source.reads.clear()
    assert class_counts(source, "train") == expected
    assert not source.reads


def test_a_bad_mask_is_the_sources_own_error_and_ends_the_reading() -> None:
    source = Drawn("multiclass", images=400)
    load = source.load

    def broken(split: str, index: int) -> Sample:
        if index == 3:
            raise DataError("3.png holds the id 7.")
        return load(split, index)

    source.load = broken  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"3\.png"):
        class_counts(source, "train")
    assert len(source.reads) < 200
    assert threading.active_count() < 8


def test_the_drawn_cells() -> None:
    counts = class_counts(Cells(size=64, train=5, val=1, test=1), "train")
    assert sum(counts.pixels) == 5 * 64 * 64 == counts.present[0]


def folder(root: Path, seed: int = 0) -> Folder:
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (root / "train" / part).mkdir(parents=True, exist_ok=True)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(root / "train" / "images" / f"{i}.png")
        Image.fromarray(rng.integers(0, 3, (20, 30), np.uint8)).save(root / "train" / "masks" / f"{i}.png")
    return Folder(root, classes=["a", "b", "c"])


def counted(source: Source) -> int:
    """How many masks are read when the classes are counted."""
    reads: list[int] = []
    load = source.load_mask
    source.load_mask = lambda split, index: reads.append(index) or load(split, index)  # type: ignore[method-assign, func-returns-value]
    try:
        tally(source, "train")
    finally:
        source.load_mask = load  # type: ignore[method-assign]
    return len(reads)


def test_what_was_counted_is_remembered_and_a_changed_mask_is_counted_again(tmp_path: Path) -> None:
    source = folder(tmp_path)
    first = tally(source, "train")
    assert counted(source) == 0
    assert all((a == b).all() for a, b in zip(first, tally(Folder(tmp_path, classes=["a", "b", "c"]), "train"), strict=True))
    path = tmp_path / "train" / "masks" / "3.png"
    mask = np.array(Image.open(path))
    mask[0] = 2
    time.sleep(0.01)
    Image.fromarray(mask).save(path)
    changed = Folder(tmp_path, classes=["a", "b", "c"])
    assert tally(changed, "train").pixels[3].tolist() == np.bincount(mask.ravel(), minlength=3).tolist()
    assert tally(changed, "train", 0.5).pixels[3].sum() == 150


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_memory_is_ignored(tmp_path: Path, damage: bytes | None) -> None:
    source = folder(tmp_path, seed=1)
    first = tally(source, "train")
    for file in user_cache().glob("classes-*"):
        file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    assert counted(source) == 6
    assert (tally(source, "train").pixels == first.pixels).all()
    assert counted(source) == 0
