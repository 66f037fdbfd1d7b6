"""What every dataset offers the DataModule: a Spec, named splits, and one Sample at a time."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from seglab.types import Sample, Spec


class Source(ABC):
    """A dataset of images with masks, in the splits train, val and test (a split may be empty)."""

    name: str
    spec: Spec
    can_reduce = False  # whether its images may be JPEG files, which `reduced` can read smaller
    reduced: float | None = None  # then `load` gives images at this scale, masks as ever (see seglab.data.reduced)
    group: str | None = None  # a regular expression: what it finds in the names of images belongs together (a clip, a patient)

    @abstractmethod
    def ids(self, split: str) -> Sequence[str]:
        """The names of the images of a split, in a fixed order; their positions are the indices used everywhere."""

    @abstractmethod
    def sizes(self, split: str) -> Sequence[tuple[int, int]]:
        """(height, width) of every image of a split, without decoding pixels."""

    def seen_sizes(self, split: str) -> tuple[set[tuple[int, int]], bool]:
        """The sizes that occur in a split, and whether that is of all images: of very many only a sample is looked at."""
        return set(self.sizes(split)), True

    @abstractmethod
    def load(self, split: str, index: int) -> Sample:
        """The image and mask as stored, without augmentation; DataError names a file that cannot be used."""

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The mask alone, as `load` gives it; a source overrides it where that spares decoding the image."""
        return self.load(split, index)["mask"]

    def stamp(self, split: str, index: int) -> int:
        """A number that changes when the files of a sample are written anew; 0 where there are none."""
        return 0

    def fingerprint(self) -> str:
        """A short hash that changes when the images, masks, splits or classes change."""
        text = repr((self.spec.classes, self.spec.mode, self.spec.ignore_index))
        text += repr([(s, self.ids(s), self.sizes(s)) for s in ("train", "val", "test")])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def written(*paths: str) -> int:
    """A number that changes when one of the files is written anew; 0 where one is gone."""
    try:
        return hash(tuple((found.st_mtime_ns, found.st_size) for found in map(os.stat, paths)))
    except OSError:
        return 0
