"""One volume, in one file or in many, that is read only when a slice of it is asked for."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

import numpy as np

_BYTES = 10**9  # of volumes that a process keeps, of images and of masks each
VOLUME = "^(.+)/[0-9]+$"  # what the slices of a volume have in common, where data.group says nothing else


class Volume(ABC):
    """A volume as stored: `shape` of three axes, `channels`, `dtype`, and the `affine` from voxels to RAS millimetres."""

    path: str  # stands for it in messages
    shape: tuple[int, int, int]
    channels: int = 1
    dtype: str
    affine: np.ndarray

    @abstractmethod
    def read(self) -> np.ndarray:
        """All of it, X Y Z C; DataError names a file that cannot be decoded."""

    def part(self, axis: int, at: int) -> np.ndarray | None:
        """One slice along a stored axis, X Y Z C with length 1 there, where it can be read alone; else None."""
        return None

    @property
    def files(self) -> tuple[str, ...]:
        """What it is made of."""
        return (self.path,)

    def behind(self, axis: int, at: int) -> tuple[str, ...]:
        """The files that a slice along a stored axis comes from."""
        return self.files


class Recent:
    """The volumes that were read last, by each process for itself, up to so many bytes (but always one)."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit, self._kept, self._lock = limit, OrderedDict[str, np.ndarray](), threading.Lock()

    def whole(self, volume: Volume) -> np.ndarray:
        """All of a volume, X Y Z C."""
        with self._lock:  # threads that want slices of one volume wait until it is there
            if volume.path in self._kept:
                self._kept.move_to_end(volume.path)
            else:
                self._kept[volume.path] = volume.read()
                while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > self._limit:
                    self._kept.popitem(last=False)
            return self._kept[volume.path]

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit}  # workers get none of it

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_limit"])  # type: ignore[misc]
