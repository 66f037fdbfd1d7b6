"""Slices of DICOM series: `data=dicom data.root=DIR 'data.window=[-160,240]'`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from seglab.data.dicom_masks import Segmentation
from seglab.data.dicom_reading import Series, dicom_files
from seglab.data.folder_classes import Told, told_classes
from seglab.data.folder_scan import in_threads
from seglab.data.layout import Pair, find_pairs
from seglab.data.nifti_reading import SUFFIXES as NIFTI
from seglab.data.nifti_reading import NiftiVolume
from seglab.data.paired import existing
from seglab.data.volumes import Volumes
from seglab.data.volumes_grid import Axis
from seglab.data.volumes_volume import Volume
from seglab.errors import DataError

_ENDINGS = (*NIFTI, ".dcm")


class Dicom(Volumes):
    """Folders of slices in images/, and masks of equal name: SEG (.dcm, or in a folder) or NIfTI; the rest as Volumes has it.

    Names of classes that are not told are the labels of the segments, which must mean the same in all SEG files.
    """

    def __init__(
        self,
        root: str | Path | None,
        axis: Axis = "axial",
        window: Sequence[float] | None = None,
        empty: bool = True,
        classes: list[str] | None = None,
        mode: str | None = None,
        ignore_index: int | None = None,
        foreground: bool = False,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        folder = existing(root, "dicom", "your series and their masks")
        pairs, told = find_pairs(folder, split, group, pair), told_classes(folder, classes, ignore_index, None)
        every = [one for some in pairs.values() for one in some]
        volumes = dict(zip(every, in_threads(_opened, every, "Reading headers", len(every) * 100), strict=True))
        told = _named([mask for _, mask in volumes.values() if isinstance(mask, Segmentation)], told)
        name = folder.resolve().name
        super().__init__(name, pairs, volumes.__getitem__, told, axis, window, empty, mode, foreground, group, mean, std)


def pair(images: Path, masks: Path) -> list[Pair]:
    """Series (folders that hold DICOM files) and masks of equal relative name, sorted."""
    series = {name: path for name, path in _folders(images) if dicom_files(path)}
    if not series:
        raise DataError(f"{images} holds no folder of DICOM files; give each series a folder there.")
    return [Pair(name, path, _mask(masks / name, path)) for name, path in sorted(series.items())]


def _folders(root: Path) -> list[tuple[str, str]]:
    found = []
    for place, folders, _ in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if place != str(root):
            found.append((os.path.relpath(place, root).replace(os.sep, "/"), place))
    return found


def _mask(stem: Path, series: str) -> str:
    there = [str(stem) + ending for ending in _ENDINGS if os.path.isfile(str(stem) + ending)]
    there += dicom_files(str(stem)) if stem.is_dir() else []
    if len(there) != 1:
        what = "has no mask" if not there else f"has {len(there)} masks"
        raise DataError(f"{series} {what}; expected is one: {stem}.nii.gz, or a DICOM SEG {stem}.dcm or in the folder {stem}.")
    return there[0]


def _opened(one: Pair) -> tuple[Series, Volume]:
    series = Series(one.image)
    if not one.mask.lower().endswith(NIFTI):
        return series, Segmentation(one.mask, series)
    if not series.placed:
        raise DataError(
            f"{one.image} does not say where its slices lie, so that the voxels of {one.mask} cannot be found in it; use a SEG."
        )
    return series, NiftiVolume([one.mask])


def _named(masks: Sequence[Segmentation], told: Told) -> Told:
    """Names from the segments, where nothing else was told; DataError if a number means one thing here and another there."""
    names: dict[int, tuple[str, str]] = {}
    for mask in masks:
        for number, name in mask.segments.items():
            first, where = names.setdefault(number, (name, mask.path))
            if first != name:
                raise DataError(
                    f"{where} calls segment {number} '{first}' and {mask.path} '{name}'; number them alike in all files."
                )
    listed = [names[number][0] for number in sorted(names)]
    if (
        told.classes is not None
        or sorted(names) != list(range(1, len(names) + 1))
        or len({"background", *listed}) <= len(listed)
    ):
        return told
    return Told(("background", *listed), told.ignore_index, where="the segments") if listed and all(listed) else told
