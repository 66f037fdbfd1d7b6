"""A series of DICOM slices as one volume, through pydicom: sorted by where they lie, in the scanner's units."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seglab.data import reading
from seglab.data.volumes_grid import check_affine
from seglab.data.volumes_volume import Volume
from seglab.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".ima")
_GAP = 0.1  # of the distance of two slices: so far may a slice lie from where it belongs
_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # direction of a row and of a column, in LPS


class Slice(NamedTuple):
    """One file: its identity, and where its first pixel lies (LPS, mm; None where the file does not say)."""

    path: str
    uid: str
    position: tuple[float, float, float] | None
    number: int


class Series(Volume):
    """The slices in a folder, in the order of their places: rows, columns, slices. Headers are read when it is made."""

    def __init__(self, folder: str) -> None:
        self.path = folder
        files = dicom_files(folder)
        if not files:
            raise DataError(f"{folder} holds no DICOM file; put a series there, one slice a file.")
        heads = [_head(file) for file in files]
        first = heads[0][1]
        for slice, about in heads[1:]:
            _same(heads[0][0].path, first, slice.path, about)
        slices = [slice for slice, _ in heads]
        placed = all(slice.position is not None for slice in slices)
        self.directions = np.array(first["orientation"] or _AXIAL, np.float64).reshape(2, 3)
        self.slices = _by_place(slices, self.directions, folder) if placed else sorted(slices, key=lambda s: s.number)
        self.placed = placed and first["orientation"] is not None
        self.shape = (first["rows"], first["columns"], len(slices))
        self.dtype = first["dtype"]
        self.affine = _affine(self.slices, self.directions, first) if self.placed else np.diag([-1.0, -1.0, 1.0, 1.0]) @ _SWAP
        with naming(folder):
            check_affine(self.affine)

    @property
    def files(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(slice.path for slice in self.slices)

    def read(self) -> np.ndarray:
        """All slices, R C S 1."""
        return np.stack([_values(slice.path, self.shape[:2]) for slice in self.slices], 2)[..., None]

    def part(self, axis: int, at: int) -> np.ndarray | None:
        """A slice that is a file of its own."""
        return _values(self.slices[at].path, self.shape[:2])[:, :, None, None] if axis == 2 else None

    def behind(self, axis: int, at: int) -> tuple[str, ...]:  # noqa: D102
        return self.files[at : at + 1] if axis == 2 else self.files


_SWAP = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # rows grow along the second axis of LPS


def dicom_files(folder: str) -> list[str]:
    """The DICOM files in a folder: by suffix, or by the four letters behind the preamble; hidden ones and DICOMDIR left out."""
    found = []
    for entry in sorted(Path(folder).iterdir()):
        if entry.name.startswith(".") or entry.name == "DICOMDIR" or not entry.is_file():
            continue
        if entry.suffix.lower() in SUFFIXES or is_dicom(str(entry)):
            found.append(str(entry))
    return found


def is_dicom(path: str) -> bool:
    """Whether a file has the mark of a DICOM file."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def dataset(path: str, pixels: bool = True) -> Any:
    """The content of a DICOM file; DataError unless it can be read."""
    with naming(path):
        import pydicom

        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _head(path: str) -> tuple[Slice, dict[str, Any]]:
    with naming(path):
        found = dataset(path, False)
        if int(found.get("NumberOfFrames") or 1) > 1:
            raise DataError(f"{path} holds many slices in one file (enhanced DICOM); convert it to NIfTI (dcm2niix).")
        if int(found.SamplesPerPixel) != 1 or "MONOCHROME" not in found.PhotometricInterpretation:
            raise DataError(
                f"{path} has colours ({found.PhotometricInterpretation}); only grey slices (MONOCHROME1, 2) are read."
            )
        numbers = lambda key: tuple(float(v) for v in found[key].value) if found.get(key) else None  # noqa: E731
        position: Any = numbers("ImagePositionPatient")
        slope, inter = float(found.get("RescaleSlope", 1)), float(found.get("RescaleIntercept", 0))
        plain = (slope, inter) == (1, 0) and found.BitsAllocated == 8 and found.PixelRepresentation == 0
        about = {
            "series": str(found.get("SeriesInstanceUID", "")), "rows": int(found.Rows), "columns": int(found.Columns),
            "orientation": numbers("ImageOrientationPatient"), "spacing": numbers("PixelSpacing") or (1.0, 1.0),
            "thickness": float(found.get("SliceThickness") or 1), "dtype": "uint8" if plain else "float32",
        }  # fmt: skip
        return Slice(path, str(found.SOPInstanceUID), position, int(found.get("InstanceNumber") or 0)), about


def _same(first: str, theirs: dict[str, Any], path: str, ours: dict[str, Any]) -> None:
    """DataError unless two files are slices of one series."""
    for key, what in (
        ("series", "series"),
        ("rows", "sizes"),
        ("columns", "sizes"),
        ("spacing", "pixel spacings"),
        ("dtype", "types"),
    ):
        if theirs[key] != ours[key]:
            raise DataError(f"{first} and {path} are of two {what}; give each series a folder of its own.")
    one, other = theirs["orientation"], ours["orientation"]
    if (one is None) != (other is None) or (one is not None and not np.allclose(one, other, atol=1e-3)):
        raise DataError(
            f"{first} and {path} are slices of two orientations (a localizer?); give each series a folder of its own."
        )


def _by_place(slices: Sequence[Slice], directions: np.ndarray, folder: str) -> list[Slice]:
    """The slices along the normal of their planes; DataError where two share a place or one is missing."""
    normal = np.cross(*directions)
    along = {slice.path: float(np.dot(normal, slice.position or (0, 0, 0))) for slice in slices}
    ordered = sorted(slices, key=lambda slice: along[slice.path])
    steps = np.diff([along[slice.path] for slice in ordered])
    if not len(steps):
        return ordered
    usual = float(np.median(steps))
    for one, other, step in zip(ordered, ordered[1:], steps, strict=False):
        if step < 1e-3:
            raise DataError(
                f"{one.path} and {other.path} lie at the same place; keep one scan (one phase, one echo) in a folder."
            )
        if abs(step - usual) > _GAP * usual:
            raise DataError(
                f"{folder}: {other.path} lies {step:.4g} mm above {one.path}, but the others are {usual:.4g} mm apart; add "
                "the slices that are missing."
            )
    return ordered


def _affine(slices: Sequence[Slice], directions: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """From (row, column, slice) to RAS millimetres; DICOM's own positions are LPS."""
    first, last = (np.array(slices[n].position, np.float64) for n in (0, -1))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = directions[1] * about["spacing"][0], directions[0] * about["spacing"][1]
    affine[:3, 2] = (last - first) / (len(slices) - 1) if len(slices) > 1 else np.cross(*directions) * about["thickness"]
    affine[:3, 3] = first
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _values(path: str, size: tuple[int, ...]) -> np.ndarray:
    """The pixels of a slice: uint8 as stored if nothing is rescaled, else float32 in the scanner's units."""
    found = dataset(path)
    with naming(path):
        stored = pixels(found, path)
        if stored.shape != size:
            raise DataError(f"{path} changed its size while in use; start again.")
        if found.PhotometricInterpretation == "MONOCHROME1":  # white is the least; mirrored in the range of the stored bits
            ends = 2 ** int(found.BitsStored) - 1 if found.PixelRepresentation == 0 else -1
            stored = (ends - stored.astype(np.int64)).astype(stored.dtype)
        slope, inter = float(found.get("RescaleSlope", 1)), float(found.get("RescaleIntercept", 0))
        if (slope, inter) == (1, 0) and stored.dtype == np.uint8:
            return stored
        return (stored.astype(np.float64) * slope + inter).astype(np.float32)


def pixels(found: Any, path: str) -> np.ndarray:
    """The stored pixels; DataError names the compression that pydicom cannot undo."""
    try:
        return np.asarray(found.pixel_array)
    except Exception as error:
        syntax = getattr(found.file_meta, "TransferSyntaxUID", None)
        if syntax is None or not syntax.is_compressed:
            raise
        raise DataError(
            f"{path} is compressed ({syntax.name}) and cannot be decoded here; pip install pylibjpeg pylibjpeg-libjpeg "
            "pylibjpeg-openjpeg, or decompress the files (gdcmconv --raw)."
        ) from error


def naming(path: str) -> AbstractContextManager[None]:
    """As of reading, in pydicom's words."""
    return reading.naming(path, "pydicom", os.path.basename(path))
