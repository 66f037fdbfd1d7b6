"""What the volumes of a data set must agree on: an image with its mask, and the images with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seglab.data.volumes_grid import apart, in_ras, orientation
from seglab.data.volumes_volume import Volume
from seglab.data.volumes_window import refuse_gaps
from seglab.errors import DataError

_SHIFT = 0.5  # voxels by which a mask may lie beside its image


class Both(NamedTuple):
    """An image and its mask, the orientations of both, and the image's shape in RAS."""

    image: Volume
    mask: Volume
    turns: tuple[np.ndarray, np.ndarray]
    shape: tuple[int, int, int]


def matched(image: Volume, mask: Volume) -> Both:
    """The two volumes; DataError unless they are the same place, however they are stored."""
    turns = orientation(image.affine), orientation(mask.affine)
    (shape, affine), (other, its) = in_ras(image.shape, image.affine, turns[0]), in_ras(mask.shape, mask.affine, turns[1])
    if mask.channels != 1:
        raise DataError(f"{mask.path} has {mask.channels} channels; a mask has one label at each voxel.")
    if shape != other:
        raise DataError(
            f"{mask.path} has {' x '.join(map(str, other))} voxels (right x front x head), but its image {image.path} has "
            f"{' x '.join(map(str, shape))}; resample the mask to the image's grid, by nearest neighbour."
        )
    shift = apart(affine, its, shape)
    if shift > _SHIFT:
        raise DataError(
            f"{mask.path} lies up to {shift:.4g} voxels beside its image {image.path}, as the affines of the two say; save the "
            "mask with the affine of the image that it was drawn on."
        )
    return Both(image, mask, turns, shape)


def alike(images: Sequence[Volume], window: tuple[float, float] | None) -> tuple[int, bool]:
    """(channels, whether values stay bytes) of all images; DataError names two that differ."""
    first = images[0]
    for one in images:
        if one.channels != first.channels:
            raise DataError(
                f"{first.path} has {first.channels} and {one.path} has {one.channels} channels; all need the same number."
            )
        if window is None and (one.dtype == "uint8") != (first.dtype == "uint8"):
            raise DataError(
                f"{first.path} holds {first.dtype} and {one.path} {one.dtype}; set data.window, which both can take."
            )
    return first.channels, window is None and first.dtype == "uint8"


def whole_numbers(values: np.ndarray, path: str) -> np.ndarray:
    """Labels as integers that a Codec takes; DataError for fractions."""
    if values.dtype.kind == "f":
        refuse_gaps(values, path)
        whole = values.astype(np.int32)
        if not np.array_equal(whole, values):
            raise DataError(f"{path} holds fractions; a mask holds labels, so resample it by nearest neighbour.")
        return whole
    return values if values.dtype in (np.uint8, np.uint16) else values.astype(np.int64)
