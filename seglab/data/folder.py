"""The user's own images and masks in folders: `data=folder data.root=DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seglab.data.folder_classes import told_classes
from seglab.data.layout import find_pairs
from seglab.data.paired import Paired, existing, found_out


class Folder(Paired):
    """Images and masks of equal stem below `root` (see layout.find_pairs); all files are checked when it is made.

    What is not given is found out: classes from classes.json or counted, `mode` from the classes, mean and std measured.
    `foreground` reduces instance ids to 0/1; `colors` reads RGB masks; `channels` (1 or 3) converts images.
    """

    def __init__(
        self,
        root: str | Path | None,
        classes: list[str] | None = None,
        mode: str | None = None,
        ignore_index: int | None = None,
        foreground: bool = False,
        colors: list | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        folder = existing(root)
        told = told_classes(folder, classes, ignore_index, colors)
        meaning, pairs = found_out(told, mode, foreground), find_pairs(folder, split, group)
        super().__init__(folder.resolve().name, pairs, meaning, told.colors or (), group, channels, mean, std)
