"""How a volume lies in the patient, and its slices as a reader of images expects them.

Axes are those of RAS: 0 grows to the patient's right, 1 to the front (anterior), 2 to the head (superior). Stored axes are
only turned around and swapped until they are nearest to these; nothing is resampled.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Axis = Literal["axial", "coronal", "sagittal", 0, 1, 2]
AXES = {"sagittal": 0, "coronal": 1, "axial": 2, 0: 0, 1: 1, 2: 2}
_FLAT = 1e-4  # a determinant of three directions that lie in one plane, all but rounding


def orientation(affine: np.ndarray) -> np.ndarray:
    """For each stored axis the RAS axis nearest to it and its direction (1 or -1); 3 2, as nibabel has it."""
    import nibabel

    return nibabel.orientations.io_orientation(affine).astype(int)


def check_affine(affine: np.ndarray) -> None:
    """ValueError unless an affine gives every voxel a place of its own."""
    with np.errstate(all="ignore"):
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if not np.isfinite(affine).all() or not abs(np.linalg.det(axes)) > _FLAT:
            raise ValueError("its header does not say where its voxels lie (the affine is singular or not finite)")


def turned(array: np.ndarray, ornt: np.ndarray) -> np.ndarray:
    """A stored array X Y Z ... with its axes in RAS."""
    import nibabel

    return nibabel.orientations.apply_orientation(array, ornt)


def place(ornt: np.ndarray, shape: tuple[int, ...], axis: int, number: int) -> tuple[int, int]:
    """(stored axis, position on it) of slice `number` along a RAS axis of a volume of the stored `shape`."""
    stored = int(np.flatnonzero(ornt[:, 0] == axis)[0])
    return stored, number if ornt[stored, 1] == 1 else shape[stored] - 1 - number


def in_ras(shape: tuple[int, ...], affine: np.ndarray, ornt: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine of a volume once its axes are in RAS."""
    import nibabel

    x, y, z = (int(shape[int(np.flatnonzero(ornt[:, 0] == axis)[0])]) for axis in range(3))
    return (x, y, z), affine @ nibabel.orientations.inv_ornt_aff(ornt, shape[:3])


def plane(slab: np.ndarray, axis: int) -> np.ndarray:
    """H W ... of a RAS array that is one voxel thick along `axis`.

    The head is up, of axial slices the front; the patient's right is on the left, of sagittal slices the front.
    """
    return np.ascontiguousarray(slab.take(0, axis)[::-1, ::-1].swapaxes(0, 1))


def plane_size(shape: tuple[int, int, int], axis: int) -> tuple[int, int]:
    """(height, width) of such a slice."""
    width, height = (length for n, length in enumerate(shape) if n != axis)
    return height, width


def apart(image: np.ndarray, mask: np.ndarray, shape: tuple[int, int, int]) -> float:
    """How far, in voxels of the image, the corners of two volumes of one shape are from each other; affines 4 4 in RAS."""
    ends = [(0, max(0, length - 1)) for length in shape]
    corners = np.array([[x, y, z, 1] for x in ends[0] for y in ends[1] for z in ends[2]], np.float64).T
    seen = np.linalg.solve(image, mask @ corners)
    return float(np.abs(seen[:3] - corners[:3]).max())
