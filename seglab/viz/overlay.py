"""Pictures of one image with its mask: RGB from any channels, tinted classes, and where a prediction is wrong."""

from __future__ import annotations

import cv2
import numpy as np

from seglab.errors import DataError
from seglab.types import Spec
from seglab.viz.colors import background, codes, table

MISSED = (64, 140, 255)  # blue: truth has a class here, the prediction has background
EXTRA = (255, 205, 60)  # yellow: the prediction has a class where truth has background
WRONG = (232, 52, 58)  # red: both have a class, and they differ
STRIPES = ((120, 120, 120), (72, 72, 72))  # pixels that count nowhere


def to_rgb(image: np.ndarray) -> np.ndarray:
    """An image H W or H W C of any channels as H W 3 uint8.

    One channel is grey, two are magenta and green, more show the first three. uint8 is kept as it is; other types are stretched
    so that their 1st and 99th percentile, over the channels shown, become black and white.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or not image.size:
        raise DataError(f"An image of shape {image.shape} cannot be drawn; it must be H W or H W C, and not empty.")
    image = image[..., None] if image.ndim == 2 else image
    order = {1: [0, 0, 0], 2: [0, 1, 0]}.get(image.shape[2], [0, 1, 2])
    if image.dtype != np.uint8:
        shown = np.nan_to_num(image[..., : max(order) + 1].astype(np.float32), posinf=0, neginf=0)
        low, high = np.percentile(shown, (1, 99))
        if high <= low:  # almost one value: show it as it is on the scale 0..1
            low, high = 0.0, 1.0
        image = np.rint(np.clip((shown - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(image[..., order])


def overlay(image: np.ndarray, mask: np.ndarray, spec: Spec, alpha: float = 0.5, line: int = 1) -> np.ndarray:
    """The image with each class tinted by `alpha` and outlined `line` pixels wide in its full colour, H W 3 uint8.

    Background stays bare, ignored pixels are striped grey. DataError if image and mask differ in size.
    """
    rgb, code, colors = to_rgb(image), codes(mask, spec), table(spec)
    same_size(rgb, code)
    k, bare = spec.num_classes, background(spec)
    # How much of the colour each row of the table gets.
    weight = np.full(k + 3, alpha, np.float32)
    weight[k + 1], weight[k + 2] = 1, 0
    if bare is not None:
        weight[bare] = 0
    strength = weight[code]
    edge = edges(code, line)
    strength[edge & (strength > 0) & (code < k)] = 1
    out = rgb + (colors[code] - rgb.astype(np.float32)) * strength[..., None]
    return striped(np.rint(out).astype(np.uint8), code == k)


def error_map(pred: np.ndarray, truth: np.ndarray, spec: Spec, image: np.ndarray | None = None) -> np.ndarray:
    """Where a prediction is wrong, H W 3 uint8: right pixels are the dimmed grey image (plain grey without one).

    Blue: missed (background predicted for a class); yellow: extra (a class predicted on background); red: another class.
    Without a background all errors are red. Multilabel: missed, extra, or both (red) over the classes. Ignored: striped.
    """
    wrong, ignored = _errors(np.asarray(pred), np.asarray(truth), spec)
    if image is None:
        grey = np.full(wrong.shape, 60, np.float32)
    else:
        rgb = to_rgb(image)
        same_size(rgb, wrong)
        grey = 24 + 0.45 * cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    out = np.repeat(grey[..., None], 3, axis=2)
    colors = np.array([(0, 0, 0), MISSED, EXTRA, WRONG], np.float32)
    # A little of the image stays visible below an error: it tells what was mistaken.
    bad = wrong > 0
    out[bad] = colors[wrong[bad]] * (0.8 + 0.2 * (grey[bad, None] - 24) / 115)
    return striped(np.clip(np.rint(out), 0, 255).astype(np.uint8), ignored)


def error_key(spec: Spec) -> list[tuple[str, tuple[int, int, int]]]:
    """The colours that `error_map` can show for a Spec, with their names."""
    if spec.mode == "binary":
        return [("missed", MISSED), ("extra", EXTRA)]
    if spec.mode == "multilabel":
        return [("missed", MISSED), ("extra", EXTRA), ("both", WRONG)]
    if background(spec) is None:
        return [("wrong class", WRONG)]
    return [("missed", MISSED), ("extra", EXTRA), ("wrong class", WRONG)]


def _errors(pred: np.ndarray, truth: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel 0 right, 1 missed, 2 extra, 3 wrong class (uint8 H W), and which pixels are ignored (bool H W)."""
    if pred.shape != truth.shape:
        raise DataError(f"A prediction of shape {pred.shape} does not fit its mask of shape {truth.shape}.")
    ignored = truth == spec.ignore_index
    if truth.ndim == 3:
        missed = ((truth == 1) & (pred != 1)).any(2)
        extra = ((truth == 0) & (pred == 1)).any(2)
        return (missed + 2 * extra).astype(np.uint8), ignored.all(2)
    wrong = np.where((pred != truth) & ~ignored, 3, 0).astype(np.uint8)
    bare = background(spec)
    if bare is not None:
        wrong[(wrong > 0) & (pred == bare)] = 1
        wrong[(wrong > 0) & (truth == bare)] = 2
    return wrong, ignored


def edges(code: np.ndarray, line: int) -> np.ndarray:
    """The pixels within `line` pixels of another code, bool H W; the image's border is no edge."""
    size = 2 * line + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS if line == 1 else cv2.MORPH_ELLIPSE, (size, size))
    as_float = code.astype(np.float32)  # exact for every code, and a type that OpenCV can dilate
    return cv2.dilate(as_float, kernel) != cv2.erode(as_float, kernel)


def striped(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The picture with diagonal grey stripes at the pixels `where`; stripes grow with the picture."""
    if where.any():
        rows, cols = np.nonzero(where)
        period = max(6, min(rgb.shape[:2]) // 40)
        rgb[rows, cols] = np.array(STRIPES, np.uint8)[((rows + cols) % period >= period // 2).astype(np.intp)]
    return rgb


def same_size(rgb: np.ndarray, mask: np.ndarray) -> None:
    """DataError unless the picture and the mask, H W, have one size."""
    if rgb.shape[:2] != mask.shape:
        height, width = rgb.shape[:2]
        raise DataError(f"An image of {height}x{width} does not fit its mask of {mask.shape[0]}x{mask.shape[1]}.")
