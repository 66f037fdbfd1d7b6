"""JPEG files decoded by libjpeg at 1/2, 1/4 or 1/8 where images are to be that small anyway: `data.reduced_jpeg=true`.

libjpeg keeps the low frequencies of each 8 x 8 block, the ordinary way averages pixels: the two differ a little
(docs/data.md has the numbers), so that it is off by default, and the same in training, evaluation and prediction.
"""

from __future__ import annotations

import io
import logging

import cv2
import numpy as np
from PIL import Image

from seglab.data.folder_stats import read_alike, to_channels
from seglab.data.reading import naming
from seglab.data.resizing import resize_image, scaled
from seglab.data.shards_bytes import read_bytes, shown_path
from seglab.data.source import Source
from seglab.errors import ConfigError, DataError
from seglab.types import Sample

log = logging.getLogger("seglab")
MOST = 0.5  # the largest data.scale at which there is anything to save
_FLAGS = {  # by the number of channels
    1: {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2},
    3: {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2},
}
_MODES = {"L": 1, "RGB": 3}  # of Pillow; CMYK and what is rarer goes the ordinary way
_END = b"\xff\xd9"


def reduced(source: Source, reduced_jpeg: bool = False, scale: float = 1.0) -> Source:
    """The data set, told to give its images at `scale`, JPEG decoded at a reduced size; ConfigError where it has no JPEG."""
    if not reduced_jpeg:
        return source
    if not source.can_reduce:
        raise ConfigError(f"data.reduced_jpeg is for JPEG files, and '{source.name}' has none; leave it out.")
    if scale > MOST:
        log.info("data.reduced_jpeg changes nothing, because data.scale=%g is above 1/2.", scale)
        return source
    source.reduced = scale
    return source


def stored_size(sample: Sample) -> np.ndarray:
    """The image as large as its mask: a reduced one is enlarged, for pictures of both."""
    image = sample["image"]
    return image if image.shape[:2] == sample["size"] else resize_image(image, sample["size"])


def read_reduced(path: str, channels: int, as_float: bool, size: tuple[int, int], scale: float) -> np.ndarray:
    """As read_alike and resize_image give it at `scale`, but for JPEG: from the smallest reduction that is not smaller.

    `size` (H, W) is that of the file; DataError if it has another by now.
    """
    goal = scaled(size, scale)
    with naming(path):
        image = _decoded(read_bytes(path), size, goal)
    if image is None:
        image = read_alike(path, channels, as_float)
        if image.shape[:2] != size:
            raise DataError(f"{shown_path(path)} changed its size while in use; start again.")
        return resize_image(image, goal)
    image = resize_image(to_channels(image, channels, path), goal)
    return image.astype(np.float32) / np.float32(255) if as_float else image


def _decoded(data: bytes, size: tuple[int, int], goal: tuple[int, int]) -> np.ndarray | None:
    """H W C of a whole JPEG file of `size`, not smaller than `goal`; None for what must be decoded in the ordinary way."""
    if not data.startswith(b"\xff\xd8") or not data.endswith(_END):
        return None  # of a JPEG without its end OpenCV would make up the rest
    with Image.open(io.BytesIO(data)) as file:
        channels, stored = _MODES.get(file.mode), (file.height, file.width)
    by = largest(size, goal)
    if channels is None or stored != size or by == 1:
        return None
    flags = _FLAGS[channels][by] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("the file is truncated or damaged")
    pixels = _fitted(pixels, size, by)
    return pixels[..., None] if channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _fitted(pixels: np.ndarray, size: tuple[int, int], by: int) -> np.ndarray:
    """A reduced image that spans just the file's `size`: the last row and column span more where `by` does not divide it.

    Without it the right edge of 81 pixels at 1/8 would lie a whole pixel beside the mask's.
    """
    shares = [side / (by * have) for side, have in zip(size, pixels.shape[:2], strict=True)]  # of the rows, of the columns
    if shares == [1, 1]:
        return pixels
    y, x = shares
    back = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]], np.float64)  # of a pixel's middle to where it is seen
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, back, pixels.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def largest(size: tuple[int, int], goal: tuple[int, int]) -> int:
    """8, 4, 2 or 1: the largest divisor of `size` (rounded up, as libjpeg does) that leaves at least `goal`."""
    fits = lambda by: all(-(-side // by) >= least for side, least in zip(size, goal, strict=True))  # noqa: E731
    return next((by for by in (8, 4, 2) if fits(by)), 1)
