"""What the files of a data set say of themselves: all of them, or of very many training images a sample."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping

import numpy as np

from seglab.data.compact import Joined, Sizes, even
from seglab.data.folder_scan import Scan, Scans, scan, scan_pair
from seglab.data.pairs import Pair, Pairs
from seglab.errors import DataError

log = logging.getLogger("seglab")
LARGE = 50_000  # pairs of a split: up to so many all are looked at before training (ADE20K has 20,210), which takes seconds
SAMPLE = 4096  # of more than that


class Headers:
    """The headers of all pairs of a split; of a LARGE one only those of an even sample, if its sizes are not needed.

    The sizes of val and test order the batches; those of training images are needed only where they are asked for. `told`
    sizes spare reading them, and are held against the headers that are read. DataError names a damaged or wrong file.
    """

    def __init__(self, pairs: Mapping[str, Pairs], told: Mapping[str, Sizes] | None = None) -> None:
        self.pairs, self._told = pairs, dict(told or {})
        self._read: dict[str, Sizes] = {}  # the sizes of a LARGE split, once they were asked for
        self.whole = {s: len(some) <= LARGE or (s != "train" and s not in self._told) for s, some in pairs.items()}
        places = {s: even(len(some), len(some) if self.whole[s] else SAMPLE) for s, some in pairs.items()}
        self.parts = parts = {s: some.take(places[s]) for s, some in pairs.items()}  # what was looked at
        self.looked: Joined[Pair] = Joined(parts.values())
        self.scans = scan(self.looked)
        ends = np.cumsum([len(part) for part in parts.values()])
        self._of = {s: Scans(self.scans.array[end - len(parts[s]) : end]) for s, end in zip(parts, ends, strict=True)}
        for split, sizes in self._told.items():
            wrong = np.flatnonzero((sizes.array[places[split]] != self._of[split].sizes.array).any(1))
            if len(wrong):
                self._fits(split, int(places[split][wrong[0]]), self._of[split][int(wrong[0])])
        for split, whole in self.whole.items():
            if not whole:
                text = "%s: %d of %d images are looked at now, the others when loaded (python -m seglab.check looks at all)"
                log.info(text, split, len(parts[split]), len(pairs[split]))

    def known(self, split: str, index: int) -> Scan | None:
        """The headers of a pair; None where only a sample was looked at."""
        return self._of[split][index] if self.whole[split] else None

    def read(self, split: str, index: int) -> Scan:
        """The headers of a pair as they are now; DataError as at the start."""
        found = scan_pair(self.pairs[split][index])
        self._fits(split, index, found)
        return found

    def _fits(self, split: str, index: int, found: Scan) -> None:
        size = (found.image.height, found.image.width)
        if split in self._told and self._told[split][index] != size:
            (height, width), (said_height, said_width) = size, self._told[split][index]
            raise DataError(
                f"{self.pairs[split][index].image} is {height} x {width} (height x width), but its list says {said_height} x "
                f"{said_width}; correct the columns height and width, or leave them out."
            )

    def sizes(self, split: str) -> Sizes:
        """The images' sizes; all headers are read where that is not done yet and the sizes were not told."""
        if self.whole[split]:
            return self._of[split].sizes
        if split in self._told:
            return self._told[split]
        if split not in self._read:
            self._read[split] = scan(self.pairs[split]).sizes
        return self._read[split]

    def seen_sizes(self, split: str) -> tuple[set[tuple[int, int]], bool]:
        """The sizes that occur, and whether all are known."""
        known = self.whole[split] or split in self._told or split in self._read
        return (self.sizes(split) if known else self._of[split].sizes).distinct(), known

    def fingerprint(self, text: str) -> str:
        """16 hex digits over `text`, the splits, all names, and the headers and file sizes of what was looked at."""
        digest = hashlib.sha256(text.encode())
        if all(self.whole.values()):
            listed = ((s, id, found) for s, some in self.pairs.items() for id, found in zip(some.ids, self._of[s], strict=True))
            for n, one in enumerate(listed):  # as the repr of one list
                digest.update(f"{', ' if n else '['}{one!r}".encode())
            digest.update(b"]")
        else:
            for split, some in self.pairs.items():
                digest.update(f"{split} {len(some)} {len(self._of[split])}".encode())
                some.ids.update(digest)
                digest.update(self._of[split].array.tobytes())
        return digest.hexdigest()[:16]
