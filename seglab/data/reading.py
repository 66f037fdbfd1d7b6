"""Decode one image or mask: PNG, JPEG, BMP, TIFF or WebP, told apart by content, not by suffix.

A path may also be the locator of a part of a file (see shards_bytes): a member of a tar shard, an entry of a table.

EXIF orientation is ignored: pixels come as they are stored, so that an image and its mask keep one orientation.
Images are H W C: uint8, 16-bit scaled to float32 in 0..1, float TIFF as it is. Masks are H W (H W C when the file has
several channels) integers; a palette gives indices, never colours. The channel axis of a TIFF is what the file calls
samples, else the smaller of its first and last axis (the last when equal).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from seglab.data import reading_tiff
from seglab.data.shards_bytes import opened, read_bytes, shown_path, size_of
from seglab.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8": "jpeg", b"BM": "bmp",
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
}  # fmt: skip
JPEG_MASK = "{} is JPEG, whose compression changes the ids of a mask; store the original mask as PNG."
_WEBP_MASK = "{} is WebP, which most tools write with a compression that changes the ids of a mask; store it as PNG."
TIFF_MASK = "{} is a TIFF compressed as JPEG or the like, which changes the ids of a mask; store the original mask as PNG."
WRONG_TYPE = "{} has pixels of type {}; store it as uint8, uint16 or float32."
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_PNG_LAYERS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> channels as stored
_PIL_LAYERS = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "CMYK": 3, "YCbCr": 3, "RGBA": 4}


class Header(NamedTuple):
    """What a file says of itself. `channels` as an image, `layers` as a mask (a palette is 3 and 1); alpha counts in both.

    `lossy`: a TIFF whose compression changes values, or may, so that it is no mask.
    """

    height: int
    width: int
    channels: int
    layers: int
    alpha: bool
    dtype: str
    format: str
    lossy: bool = False


def read_header(path: str) -> Header:
    """The Header of a file, without decoding pixels unless the file's end is missing; DataError if damaged."""
    with naming(path), opened(path) as file:
        head = file.read(32)
        kind = _kind(head)
        if kind == "tiff":
            file.seek(0)
            with reading_tiff.opened(file) as tiff:
                about = reading_tiff.described(tiff, size_of(path))
                return Header(*about, "tiff", reading_tiff.lossy(tiff))
        header = _png_header(head) if kind == "png" else _pillow_header(file, kind)
        if header.height < 1 or header.width < 1:
            raise ValueError("its width or height is zero")
        if not _complete(file, size_of(path), kind, head):
            _decode(path)  # a lost end may be trailing bytes of a camera; the decoder is the judge
    return header


def read_image(path: str) -> np.ndarray:
    """The image as H W C, uint8 or float32 (see the module's legend); DataError names a file that cannot be decoded."""
    with naming(path):
        pixels = _decode(path)
        if pixels.dtype == np.uint8:
            pass
        elif pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        elif pixels.dtype == np.uint16:
            pixels = pixels.astype(np.float32)
            pixels /= np.float32(65535)
        elif pixels.dtype.kind == "f":
            pixels = pixels.astype(np.float32)
            if not np.isfinite(pixels).all():
                raise DataError(f"{shown_path(path)} holds NaN or infinite values; replace them by numbers.")
        else:
            raise DataError(WRONG_TYPE.format(shown_path(path), pixels.dtype))
        return pixels if pixels.ndim == 3 else pixels[..., None]


def read_mask(path: str) -> np.ndarray:
    """The mask's integers as stored, H W or H W C; DataError for JPEG (lossy), fractions, or a damaged file."""
    with naming(path):
        pixels = _decode(path, indices=True)
        if pixels.dtype == np.bool_:
            return pixels.astype(np.uint8)
        if pixels.dtype.kind == "f":
            whole = pixels.astype(np.int32)
            if not np.array_equal(whole, pixels):
                raise DataError(f"{shown_path(path)} holds fractions; a mask holds class ids, so store it with whole numbers.")
            return whole
        return pixels


@contextmanager
def naming(path: str, package: str = "", short: str | None = None) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError of one sentence that names the file.

    `package` (of the extra `medical`) is what the decoder needs; `short` stands for the path in the decoder's own words.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # every decoder has exceptions of its own kind
        where = shown_path(path)
        if package and isinstance(error, ImportError):
            raise DataError(f"{where} needs {package}, which is not installed; pip install 'seglab[medical]'.") from None
        said = str(error) if short is None else str(error).replace(path, short)
        why = " ".join(said.split()).rstrip(".") or type(error).__name__
        raise DataError(f"{where} cannot be read: {why}; repair the file, or remove it together with its partner.") from error


def _kind(head: bytes) -> str:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    raise ValueError("the file is empty" if not head else "its content is not PNG, JPEG, BMP, TIFF or WebP")


def _png_header(head: bytes) -> Header:
    if head[12:16] != b"IHDR" or len(head) < 26 or head[25] not in _PNG_LAYERS:
        raise ValueError("the PNG header is damaged")
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    layers, palette = _PNG_LAYERS[head[25]], head[25] == 3
    dtype = "uint16" if head[24] == 16 else "uint8"
    return Header(height, width, 3 if palette else layers, layers, head[25] in (4, 6), dtype, "png")


def _pillow_header(file: BinaryIO, kind: str) -> Header:
    file.seek(0)
    with Image.open(file) as image:
        layers = _PIL_LAYERS.get(image.mode)
        if layers is None:
            raise ValueError(f"its pixel mode {image.mode} is not supported")
        channels = 3 if image.mode == "P" else layers
        return Header(image.height, image.width, channels, layers, layers in (2, 4), "uint8", kind)


def _complete(file: BinaryIO, size: int, kind: str, head: bytes) -> bool:
    """Whether the file's end is there: a copy that broke off is found before training, not in epoch 3."""
    if kind == "bmp":
        return int.from_bytes(head[2:6], "little") <= size
    if kind == "webp":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    end = _PNG_END if kind == "png" else _JPEG_END
    file.seek(max(0, size - len(end)))
    return file.read() == end


def _decode(path: str, indices: bool = False) -> np.ndarray:
    data = read_bytes(path)
    kind = _kind(data)
    if kind == "tiff":
        try:
            return reading_tiff.decode(data, indices)
        except reading_tiff.Lossy:
            raise DataError(TIFF_MASK.format(shown_path(path))) from None
    if kind == "png":
        return _decode_png(data, indices)
    if kind == "bmp":
        return _decode_pillow(data, indices)
    if indices:
        raise DataError((_WEBP_MASK if kind == "webp" else JPEG_MASK).format(shown_path(path)))
    if kind == "webp":
        return _decode_pillow(data)
    # OpenCV before 5 fills the missing part of a JPEG with grey and says nothing; Pillow refuses it.
    return _decode_opencv(data) if data.endswith(_JPEG_END) else _decode_pillow(data)


def _decode_opencv(data: bytes) -> np.ndarray:
    # IMREAD_UNCHANGED keeps 16 bits and alpha, and leaves EXIF orientation alone.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the file is truncated or damaged")
    if pixels.ndim == 3:
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        cv2.cvtColor(pixels, order, dst=pixels)
    return pixels


def _decode_png(data: bytes, indices: bool) -> np.ndarray:
    if _PNG_END not in data[-64:] and data.rfind(_PNG_END) < 0:
        raise ValueError("the file is truncated")  # said here, because OpenCV also writes to the terminal
    depth, color = data[24], data[25]
    if color == 3 and indices:
        return _decode_pillow(data, indices)  # OpenCV would return the palette's colours
    pixels = _decode_opencv(data)
    if color in (2, 3) and pixels.shape[2] == 4:
        return np.ascontiguousarray(pixels[..., :3])  # a transparent colour (tRNS) is no channel
    if color == 4:
        return np.ascontiguousarray(pixels[..., [0, 3]])
    if indices and color == 0 and depth < 8:
        return pixels // np.uint8(255 // (2**depth - 1))  # the decoder stretches 1, 2 and 4 bits to 0..255
    return pixels


def _decode_pillow(data: bytes, indices: bool = False) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode in ("CMYK", "YCbCr") or (image.mode == "P" and not indices):
            return np.array(image.convert("RGB"))
        return np.array(image)
