"""Slices of NIfTI volumes: `data=nifti data.root=DIR 'data.window=[-160,240]'`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seglab.data.layout import Pair
from seglab.data.nifti_layout import channels, find_volumes, told
from seglab.data.nifti_reading import NiftiVolume
from seglab.data.paired import existing
from seglab.data.volumes import Volumes
from seglab.data.volumes_grid import Axis


class Nifti(Volumes):
    """Volumes and labels of equal name below `root` (see nifti_layout); the rest as seglab.data.volumes.Volumes has it."""

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
        folder = existing(root, "nifti", "your volumes and their labels")
        pairs, said = find_volumes(folder, split, group), told(folder, classes, ignore_index, None)
        name = folder.resolve().name
        super().__init__(name, pairs, _opened, said, axis, window, empty, mode, foreground, group, mean, std)


def _opened(one: Pair) -> tuple[NiftiVolume, NiftiVolume]:
    return NiftiVolume(channels(one)), NiftiVolume([one.mask])
