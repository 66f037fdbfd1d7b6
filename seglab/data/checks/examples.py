"""The pairs that findings name, decoded once more, to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from seglab.data.checks.gather import below
from seglab.data.checks.looking import decoded
from seglab.data.checks.meaning import Meaning
from seglab.data.checks.report import Example
from seglab.data.layout import SPLITS, Pair
from seglab.data.reading import read_image
from seglab.data.source import Source
from seglab.errors import DataError

_SIDE = 640  # of what is handed on; pages show less
_OBJECTS = 8  # values without a meaning take turns with so many ids


def of_pairs(root: Path, pairs: Mapping[str, Sequence[Pair]], meaning: Meaning | None) -> Callable[[str], Example | None]:
    """Finds the pair of a file (its path below `root`), whichever of the two it is."""

    by_name: dict[str, Pair] = {}

    def example(file: str) -> Example | None:
        if not by_name:
            by_name.update({below(root, path): one for some in pairs.values() for one in some for path in one[1:]})
        try:
            return _small(Example(file, read_image(by_name[file].image), _ids(by_name[file].mask, meaning)))
        except (KeyError, DataError):
            return None

    return example


def of_samples(source: Source) -> Callable[[str], Example | None]:
    """Finds a sample by its id."""

    def example(file: str) -> Example | None:
        for split in SPLITS:
            ids = source.ids(split)
            if file in ids:
                try:
                    sample = source.load(split, ids.index(file))
                except DataError:
                    return None
                return _small(Example(file, sample["image"], _flat(sample["mask"], source.spec.ignore_index)))
        return None

    return example


def _ids(path: str, meaning: Meaning | None) -> np.ndarray | None:
    """Class ids H W of a mask file: of layers the last that is set; what no class has is -1; without a meaning any ids."""
    found = decoded(path, meaning is not None and meaning.mode == "multilabel")
    if found is None:
        return None
    label, planes = found
    out = np.zeros(planes[0].shape, np.int32)
    for k, plane in enumerate(planes):
        values, places = np.unique(plane, return_inverse=True)
        if meaning is None or meaning.by_id:
            ids = [0 if v == 0 else 1 + (int(v) - 1) % _OBJECTS for v in values]
        else:
            known = [meaning.of(label, int(v)) for v in values]
            ids = [-1 if of is None else meaning.ignore if of < 0 else of for of in known]
        drawn = np.array(ids, np.int32)[places.reshape(plane.shape)]
        out = np.where(drawn == 1, k, out) if len(planes) > 1 else drawn
    return out


def _flat(mask: np.ndarray, ignore: int) -> np.ndarray:
    if mask.ndim == 2:
        return mask.astype(np.int32)
    layers = np.where(mask == 1, np.arange(mask.shape[2]), -1).max(2)
    return np.where(layers < 0, ignore, layers).astype(np.int32)


def _small(one: Example) -> Example:
    """Every n-th pixel, so that no page holds a large picture in memory; a mask of another size is not shown."""
    step = max(1, -(-max(one.image.shape[:2]) // _SIDE))
    mask = one.mask if one.mask is not None and one.mask.shape == one.image.shape[:2] else None
    return Example(one.id, np.ascontiguousarray(one.image[::step, ::step]), None if mask is None else mask[::step, ::step])
