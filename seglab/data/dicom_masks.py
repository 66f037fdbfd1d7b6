"""DICOM segmentation objects (SEG) as labels of the slices of a series: 0, or the number of the segment."""

from __future__ import annotations

from typing import Any

import numpy as np

from seglab.data.dicom_reading import Series, dataset, naming, pixels
from seglab.data.volumes_volume import Volume
from seglab.errors import DataError

_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
_NEAR = 0.5  # millimetres between the place of a frame and that of its slice


class Segmentation(Volume):
    """The segments in a SEG file on the grid of `series`; frames find their slices by identity, else by place."""

    def __init__(self, path: str, series: Series) -> None:
        self.path, self.series = path, series
        self.shape, self.affine, self.dtype = series.shape, series.affine, "uint16"
        found = dataset(path, False)
        with naming(path):
            if found.SOPClassUID != _SEG:
                raise DataError(f"{path} is no DICOM segmentation object (SEG); masks are SEG or NIfTI.")
            if found.SegmentationType != "BINARY":
                raise DataError(
                    f"{path} is a SEG of type {found.SegmentationType}; only BINARY is read (one bit for each voxel)."
                )
            if (int(found.Rows), int(found.Columns)) != self.shape[:2]:
                raise DataError(
                    f"{path} is {found.Rows} x {found.Columns} (rows x columns), but the slices in {series.path} are "
                    f"{self.shape[0]} x {self.shape[1]}; segment the series itself."
                )
            self.segments = {int(one.SegmentNumber): str(one.get("SegmentLabel", "")) for one in found.SegmentSequence}
            self.frames = _frames(found, path, series)

    def read(self) -> np.ndarray:
        """All slices, R C S 1."""
        found = dataset(self.path)
        with naming(self.path):
            marked = pixels(found, self.path).reshape(-1, *self.shape[:2]).astype(bool)
            if len(marked) != len(self.frames):
                raise DataError(f"{self.path} changed while in use; start again.")
            out = np.zeros(self.shape, np.uint16)
            for frame, (slice, segment) in zip(marked, self.frames, strict=True):
                both = out[..., slice][frame]
                if (other := both[(both != 0) & (both != segment)]).size:
                    raise DataError(
                        f"{self.path} marks a voxel of {self.series.slices[slice].path} as {int(other[0])} and as {segment}; "
                        "a mask has one label at each voxel."
                    )
                out[..., slice][frame] = segment
            return out[..., None]


def _frames(found: Any, path: str, series: Series) -> list[tuple[int, int]]:
    """(slice, segment) of each frame; DataError for a frame that is none of the series' slices or lies elsewhere."""
    by_uid = {slice.uid: n for n, slice in enumerate(series.slices)}
    shared = found.get("SharedFunctionalGroupsSequence") or [{}]
    frames = []
    for number, group in enumerate(found.PerFrameFunctionalGroupsSequence, 1):
        part = lambda name, group=group: (group.get(name) or shared[0].get(name) or [None])[0]  # noqa: E731
        where, turned, source = part("PlanePositionSequence"), part("PlaneOrientationSequence"), part("DerivationImageSequence")
        place = None if where is None else np.array([float(v) for v in where.ImagePositionPatient])
        uid = (
            str(source.SourceImageSequence[0].ReferencedSOPInstanceUID)
            if source and source.get("SourceImageSequence")
            else None
        )
        slice = by_uid.get(uid) if uid is not None else _nearest(place, series)
        if slice is None:
            raise DataError(
                f"{path}: frame {number} belongs to no slice of {series.path}; put the series there that was segmented."
            )
        known = series.slices[slice].position
        directions = series.directions.ravel()
        off = place is not None and known is not None and np.abs(place - known).max() > _NEAR
        if off or (
            turned is not None and not np.allclose([float(v) for v in turned.ImageOrientationPatient], directions, atol=1e-3)
        ):
            raise DataError(
                f"{path}: frame {number} lies elsewhere, or is turned otherwise, than its slice {series.slices[slice].path}; "
                "export the segmentation on the grid of the series."
            )
        segment = part("SegmentIdentificationSequence")
        frames.append((slice, int(segment.ReferencedSegmentNumber)))
    return frames


def _nearest(place: np.ndarray | None, series: Series) -> int | None:
    """The slice at a place, if there is one."""
    if place is None or not series.placed:
        return None
    away = [float(np.abs(place - np.array(slice.position)).max()) for slice in series.slices]
    best = int(np.argmin(away))
    return best if away[best] <= _NEAR else None
