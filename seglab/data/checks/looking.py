"""Look at one pair: decode both files once and keep what all checks ask for."""

from __future__ import annotations

import hashlib
import os

import cv2
import numpy as np
from PIL import Image

from seglab.data.checks.edges import agreement, border
from seglab.data.checks.looks import THUMB, Fault, Label, Look, Picture, Plane
from seglab.data.mask_codec import codes, is_gray
from seglab.data.reading import Header, read_header, read_image, read_mask
from seglab.data.shards_bytes import opened
from seglab.errors import DataError
from seglab.types import Sample

_COMPONENTS = 64  # masks with more values than this hold ids of objects, or noise
_ORIENTATION = 274  # EXIF
_KINDS = (
    ("NaN", "not_finite"),
    ("pixels of type", "pixel_type"),
    ("fractions", "mask_fractions"),
    ("colours of type", "pixel_type"),
)


def look_at(id: str, image: str, mask: str, layered: bool, edges: bool) -> Look:
    """The Look of two files. `layered`: every channel of a mask is a class; `edges`: measure how the mask fits the image."""
    faults: list[Fault] = []
    picture, pixels = _image(image, faults)
    label, values = _mask(mask, layered, faults)
    fits = None
    if edges and pixels is not None and values is not None and pixels.shape[:2] == values.shape[:2]:
        fits = agreement(pixels, values)
    return Look(id, image, mask, picture, label, tuple(faults), fits)


def look_at_sample(sample: Sample, classes: int, layered: bool, edges: bool) -> Look:
    """The Look of a sample that some Source gives: its mask holds class ids, its objects may be told apart."""
    image, mask, id = sample["image"], sample["mask"], sample["id"]
    height, width, channels = image.shape
    picture = described(image, Header(height, width, channels, channels, False, str(image.dtype), "array"), 1)
    planes = tuple(_plane(mask[..., k]) for k in range(mask.shape[2])) if layered else (_plane(mask),)
    if "instances" in sample:
        planes = (Plane(planes[0].values, planes[0].border, _object_areas(sample, classes)), *planes[1:])
    kind = "layers" if layered else "ids"
    label = Label(height, width, len(planes), False, str(mask.dtype), "array", False, kind, planes, False, _digest(mask))
    return Look(id, id, id, picture, label, (), agreement(image, mask) if edges else None)


def described(image: np.ndarray, header: Header, orientation: int) -> Picture:
    """The Picture of decoded pixels, H W C uint8 or float32."""
    unit = 1 / 255 if image.dtype == np.uint8 else 1.0
    mean, std = _moments(image)
    low, high = float(image.min()) * unit, float(image.max()) * unit
    gray = _gray(image)
    thumb = cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    signs = np.packbits(small[:, 1:] > small[:, :-1])
    return Picture(
        header.height, header.width, header.channels, header.alpha, header.dtype, header.format, orientation,
        _rounded(mean * unit), _rounded(std * unit), low, high, _digest(image), int.from_bytes(signs.tobytes(), "big"),
        thumb.tobytes(),
    )  # fmt: skip


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel."""
    if image.shape[2] <= 4:
        mean, std = cv2.meanStdDev(image)
        return mean.ravel(), std.ravel()
    flat = image.reshape(-1, image.shape[2])
    return flat.mean(0, dtype=np.float64), flat.std(0, dtype=np.float64)


def _image(path: str, faults: list[Fault]) -> tuple[Picture | None, np.ndarray | None]:
    if _is_empty(path):
        faults.append(Fault("image", "empty_file", "the file is empty"))
        return None, None
    try:
        header, pixels = read_header(path), read_image(path)
        return described(pixels, header, _orientation(path, header.format)), pixels
    except DataError as error:
        faults.append(Fault("image", _kind(error), _why(error, path)))
        return None, None


def decoded(path: str, layered: bool) -> tuple[Label, list[np.ndarray]] | None:
    """A mask's Label (without what is counted) and its planes of values; None where it cannot be read."""
    try:
        header, stored = read_header(path), read_mask(path)
        kind, planes = _planes(stored, header, layered, path)
    except DataError:
        return None
    layers = stored.shape[2] if stored.ndim == 3 else 1
    size = (header.height, header.width, layers, header.alpha, header.dtype, header.format, False)
    return Label(*size, kind, (), False, ""), planes


def _mask(path: str, layered: bool, faults: list[Fault]) -> tuple[Label | None, np.ndarray | None]:
    if _is_empty(path):
        faults.append(Fault("mask", "empty_file", "the file is empty"))
        return None, None
    try:
        header = read_header(path)
        if header.format == "jpeg":
            read_image(path)  # whether it can be decoded at all
            faults.append(Fault("mask", "jpeg_mask", f"{header.height} x {header.width}"))
            return None, None
        stored = read_mask(path)
        kind, planes = _planes(stored, header, layered, path)
    except DataError as error:
        faults.append(Fault("mask", _kind(error), _why(error, path)))
        return None, None
    seen = tuple(_plane(one) for one in planes)
    one_hot = kind != "ids" and stored.ndim == 3 and bool(((stored > 0).sum(2, dtype=np.uint16) == 1).all())
    palette = header.channels == 3 and header.layers == 1
    layers = stored.shape[2] if stored.ndim == 3 else 1
    told = (header.height, header.width, layers, header.alpha, header.dtype, header.format, palette)
    return Label(*told, kind, seen, one_hot, _digest(stored)), stored


def _planes(stored: np.ndarray, header: Header, layered: bool, path: str) -> tuple[str, list[np.ndarray]]:
    """What the mask is, going by itself, and its planes of values."""
    if stored.ndim == 2:
        return ("layers" if layered else "ids"), [stored]
    count = stored.shape[2] - header.alpha
    if layered or count not in (1, 3):
        return "layers", [np.ascontiguousarray(stored[..., k]) for k in range(stored.shape[2])]
    if is_gray(stored):
        return "ids", [np.ascontiguousarray(stored[..., 0])]
    return "colors", [codes(stored, path)]


def _plane(values: np.ndarray) -> Plane:
    numbers, index, counts = _indexed(values)
    edge = border(index)
    on_border = np.bincount(index[edge], minlength=len(numbers))
    pixels = {int(v): int(n) for v, n in zip(numbers, counts, strict=True)}
    inside = {int(v): int(n) for v, n in zip(numbers, on_border, strict=True) if n}
    if len(numbers) > _COMPONENTS:
        return Plane(pixels, inside, None)
    return Plane(pixels, inside, {int(v): _areas(index == i) for i, v in enumerate(numbers)})


def _indexed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct values, for each pixel the place of its own among them (uint8 or uint16), and each one's pixels."""
    if values.dtype in (np.uint8, np.uint16):  # counting is many times faster than sorting
        counts = np.bincount(values.ravel(), minlength=1)
        numbers = np.flatnonzero(counts)
        table = np.zeros(len(counts), np.uint8 if len(numbers) <= 256 else np.uint16)
        table[numbers] = np.arange(len(numbers))
        return numbers, table[values], counts[numbers]
    numbers, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return numbers, np.minimum(index, 65535).astype(np.uint16).reshape(values.shape), counts


def _areas(inside: np.ndarray) -> dict[int, int]:
    x, y, width, height = cv2.boundingRect(inside.view(np.uint8))
    inside = inside[y : y + height, x : x + width]  # a class is seldom everywhere, and components are most of the work
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    return _tally(stats[1:count, cv2.CC_STAT_AREA])


def _tally(areas: np.ndarray) -> dict[int, int]:
    sizes, counts = np.unique(areas, return_counts=True)
    return {int(a): int(n) for a, n in zip(sizes, counts, strict=True)}


def _object_areas(sample: Sample, classes: int) -> dict[int, dict[int, int]]:
    """{class: {area: objects}} of the objects that the sample tells apart, crowds left out."""
    ids, mask = sample["instances"], sample["mask"]
    areas = np.bincount(ids.ravel().astype(np.int64))
    if "labels" in sample:
        labels = np.concatenate([[-1], np.where(sample["crowd"], -1, sample["labels"])])[: len(areas)]
    else:  # each object is of the class that most of its pixels have
        known = mask < classes
        votes = np.bincount(ids[known].astype(np.int64) * classes + mask[known], minlength=len(areas) * classes)
        labels = votes.reshape(-1, classes).argmax(1)
        labels[0] = -1
    there = areas[: len(labels)] > 0
    return {k: _tally(areas[: len(labels)][there & (labels == k)]) for k in range(classes) if (there & (labels == k)).any()}


def _gray(image: np.ndarray) -> np.ndarray:
    """H W uint8, for thumbnails; float images are stretched between their own limits."""
    gray = image[..., 0] if image.shape[2] < 3 else cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)
    if gray.dtype == np.uint8:
        return np.ascontiguousarray(gray)
    low, high = float(gray.min()), float(gray.max())
    return ((gray - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _orientation(path: str, kind: str) -> int:
    if kind not in ("jpeg", "png"):
        return 1
    try:
        with opened(path) as file, Image.open(file) as image:
            return int(image.getexif().get(_ORIENTATION, 1) or 1)
    except Exception:  # a damaged tag harms nobody, as it is ignored
        return 1


def _kind(error: DataError) -> str:
    return next((kind for words, kind in _KINDS if words in str(error)), "unreadable")


def _why(error: DataError, path: str) -> str:
    """The reason in a reader's sentence, without the file's name and the remedy."""
    return str(error).removeprefix(path).partition(" cannot be read: ")[2].partition("; ")[0]


def _is_empty(path: str) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == 0


def _digest(pixels: np.ndarray) -> str:
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _rounded(numbers: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{n:.6g}") for n in numbers)
