"""Volumes in NIfTI files, through nibabel: one file of one or more channels, or a file for each channel."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from seglab.data.reading import naming
from seglab.data.volumes_grid import check_affine
from seglab.data.volumes_volume import Volume
from seglab.errors import DataError

SUFFIXES = (".nii", ".nii.gz")


class NiftiVolume(Volume):
    """The volume in some `files`, each of them X Y Z, or one X Y Z C. Headers are read when it is made."""

    def __init__(self, files: Sequence[str]) -> None:
        self.path, self._files = files[0], tuple(files)
        first = _header(files[0])
        self.shape, self.channels, self.dtype, self.affine = first
        for file in files[1:]:
            shape, channels, dtype, affine = _header(file)
            if shape != self.shape or not np.allclose(affine, self.affine, atol=1e-3):
                raise DataError(f"{file} has another shape or affine than {files[0]}, a channel of the same case; resample it.")
            if channels > 1 or self.channels > 1:
                raise DataError(f"{file} is one of several channels of a case, but the files have channels of their own.")
            if dtype != self.dtype:
                self.dtype = "float32"
        self.channels = max(self.channels, len(files))

    @property
    def files(self) -> tuple[str, ...]:  # noqa: D102
        return self._files

    def read(self) -> np.ndarray:
        """All of it, in its own type where the header scales nothing."""
        return np.concatenate([self._values(file) for file in self._files], -1)

    def part(self, axis: int, at: int) -> np.ndarray | None:
        """A slice, of files that are not compressed: their other bytes are not read."""
        if any(file.lower().endswith(".gz") for file in self._files):
            return None
        where = tuple(slice(at, at + 1) if n == axis else slice(None) for n in range(3))
        return np.concatenate([self._values(file, where) for file in self._files], -1)

    def _values(self, file: str, where: tuple[slice, ...] = ()) -> np.ndarray:
        with _naming(file):
            stored = _load(file).dataobj
            values = np.asanyarray(stored[where] if where else stored)
            if values.shape[:3] != self.shape and not where:
                raise DataError(f"{file} changed its size while in use; start again.")
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            values = values.astype(np.float32) if values.dtype == np.float64 else values
            return values.reshape(*values.shape[:3], -1)


def _header(path: str) -> tuple[tuple[int, int, int], int, str, np.ndarray]:
    """(shape, channels, dtype of the values, affine)."""
    with _naming(path):
        image = _load(path)
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise ValueError(f"its shape {shape} is not that of a volume, X x Y x Z (x channels)")
        dtype, (slope, inter) = image.get_data_dtype(), (image.dataobj.slope, image.dataobj.inter)
        if dtype.kind not in "iuf":
            raise ValueError(f"its values are of type {dtype}")
        if not path.lower().endswith(".gz"):
            there, needed = os.path.getsize(path), image.dataobj.offset + math.prod(shape) * dtype.itemsize
            if there < needed:
                raise ValueError(f"it is truncated, because its {there} bytes should be {needed}")
        name, affine = dtype.name if (slope, inter) == (1, 0) else "float32", np.asarray(image.affine, np.float64)
        check_affine(affine)
        return (shape[0], shape[1], shape[2]), shape[3] if len(shape) == 4 else 1, name, affine


def _load(path: str) -> Any:
    import nibabel

    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise ValueError("its content is not NIfTI")
    return image


def _naming(path: str) -> AbstractContextManager[None]:
    return naming(path, "nibabel", "the file")
