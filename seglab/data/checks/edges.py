"""Do masks lie on their images? Borders of masks should lie where images change; if all fit better a few pixels away,
they were shifted (an odd crop, another resize, an off-by-one in an export)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from seglab.data.checks.findings import Finding, many
from seglab.data.checks.looks import REACH, Look

SAMPLE = 64  # pairs looked at
_SIDE = 768  # of the middle part of a large image
_FEWEST, _FARTHEST_FIT, _GAIN, _CLEAR = 5, 1, 0.02, 4.0
_SQUARE = np.ones((3, 3), np.uint8)


def border(values: np.ndarray) -> np.ndarray:
    """Pixels of a plane (uint8 or uint16, H W) with another value among their 8 neighbours, on both sides of a border."""
    return cv2.dilate(values, _SQUARE) != cv2.erode(values, _SQUARE)


def agreement(image: np.ndarray, mask: np.ndarray) -> tuple[float, ...] | None:
    """Correlation of the mask's borders with the image's gradient for all shifts of up to REACH pixels, row by row.

    The entry of (dy, dx) says how well the mask fits when moved by that much; None where nothing can be compared.
    """
    image, mask = _middle(image), _middle(mask)
    if min(mask.shape[:2]) < 4 * REACH:
        return None
    planes = mask[..., None] if mask.ndim == 2 else mask
    edge = np.zeros(mask.shape[:2], bool)
    for k in range(planes.shape[2]):
        edge |= border(np.ascontiguousarray(planes[..., k]).astype(np.float32))
    inner = edge[REACH:-REACH, REACH:-REACH].astype(np.float32)
    slope = _slope(image)
    if not 0 < inner.mean() < 1 or slope.max() <= 0:
        return None
    found = cv2.matchTemplate(slope, inner, cv2.TM_CCOEFF_NORMED)
    return tuple(float(f"{v:.4g}") for v in found.ravel()) if np.isfinite(found).all() else None


def shifted(looks: Sequence[Look]) -> list[Finding]:
    """A warning if the sampled pairs fit clearly better when all masks are moved by one common shift."""
    some = [one for one in looks if one.agreement is not None]
    if len(some) < _FEWEST:
        return []
    every = np.array([one.agreement for one in some])
    mean, middle = every.mean(0), every.shape[1] // 2
    best = int(mean.argmax())
    dy, dx = (int(n) - REACH for n in divmod(best, 2 * REACH + 1))
    gain = every[:, best] - every[:, middle]
    clear = gain.mean() / max(float(gain.std(ddof=1)) / len(gain) ** 0.5, 1e-9)
    if max(abs(dy), abs(dx)) <= _FARTHEST_FIT or gain.mean() < max(_GAIN, 0.1 * mean[best]) or clear < _CLEAR:
        return []
    better = sum(gain > 0)
    text = (
        f"The masks lie beside their images: moved by ({dy}, {dx}) pixels (down, right) their borders fit the edges of the "
        f"images better in {better} of {many(len(some), 'sampled pair')} (agreement {mean[best]:.2f} instead of "
        f"{mean[middle]:.2f})."
    )
    evidence = {"dy": dy, "dx": dx, "agreement": float(mean[best]), "unmoved": float(mean[middle]), "pairs": len(some),
                "better": int(better), "t": float(clear)}  # fmt: skip
    files = tuple(one.mask for one, more in zip(some, gain, strict=True) if more > 0)
    return [Finding("warning", "shifted_masks", text, files, evidence, "export the masks again on the images' own pixels")]


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = (max(0, (n - _SIDE) // 2) for n in pixels.shape[:2])
    return pixels[top : top + _SIDE, left : left + _SIDE]


def _slope(image: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(image).reshape(-1, image.shape[2])
    gray = cv2.reduce(flat, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).reshape(image.shape[:2])
    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
