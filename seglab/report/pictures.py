"""The example images of a run as data URIs, small enough for the page."""

from __future__ import annotations

import base64
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from seglab.errors import DataError, visible
from seglab.report.reading import AGAIN
from seglab.results import is_number

LAYERS = ("image", "prediction", "truth", "errors")
KINDS = ("best", "median", "worst")
TYPES = {"JPEG": "image/jpeg", "PNG": "image/png"}
LARGEST = 40_000_000  # bytes of one file; no picture of ours comes near


@dataclass(frozen=True)
class Example:
    """A test image. layers: image, prediction, truth, errors as data URIs."""

    id: str
    kind: str
    iou: float | None
    width: int
    height: int
    layers: dict[str, str]


def read_examples(folder: Path, budget: int) -> tuple[list[Example], list[str]]:
    """The examples of a run's folder in at most so many bytes of text, and sentences on what was left out or made smaller.

    DataError where there are none.
    """
    listed, notes, loaded = _listed(folder), [], []
    for entry in listed:
        try:
            loaded.append((entry, {layer: _load(folder / "examples", entry["files"].get(layer)) for layer in LAYERS}))
        except DataError as error:
            notes.append(f"Image '{visible(str(entry.get('id')))[:120]}' is left out: {error}")
    sizes = [len(data) for _, files in loaded for data, _ in files.values()]
    share = _share(sizes, budget * 3 // 4)  # base64 makes 4 of 3 bytes
    small = False
    examples = []
    for entry, files in loaded:
        layers = {}
        for layer, (data, kind) in files.items():
            if len(data) > share:
                data, kind, small = _smaller(data, share), "JPEG", True
            layers[layer] = f"data:{TYPES[kind]};base64,{base64.b64encode(data).decode()}"
        iou = float(entry["iou"]) if is_number(entry.get("iou")) else None
        width, height = (v if isinstance(v := entry.get(k), int) and 0 < v < 10**5 else 1 for k in ("width", "height"))
        examples.append(Example(str(entry.get("id")), str(entry.get("kind")), iou, width, height, layers))
    if small:
        notes.append("The pictures are compressed further than those in examples/, so that the page stays below 5 MB.")
    return sorted(examples, key=lambda e: KINDS.index(e.kind) if e.kind in KINDS else len(KINDS)), notes


def _listed(folder: Path) -> list[dict[str, Any]]:
    path = folder / "examples" / "examples.json"
    if not path.is_file():
        raise DataError(f"No examples/examples.json: {AGAIN}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"examples/examples.json cannot be read ({error}); {AGAIN}.") from error
    images = found.get("images") if isinstance(found, dict) else None
    if not isinstance(images, list) or not all(isinstance(i, dict) and isinstance(i.get("files"), dict) for i in images):
        raise DataError(f"examples/examples.json does not list images with their files; {AGAIN}.")
    return images


def _load(home: Path, name: Any) -> tuple[bytes, str]:
    """A picture's bytes and format. DataError for anything else, and for what lies outside of its folder."""
    said = f"'{visible(str(name))[:120]}'"
    try:
        path = (home / str(name)).resolve()
        if not path.is_relative_to(home.resolve()):
            raise DataError(f"its file {said} lies outside of examples/.")
        if not path.is_file():
            raise DataError(f"there is no file {said} in examples/.")
        if path.stat().st_size > LARGEST:
            raise DataError(f"its file {said} is too large.")
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow's warning of a picture that unfolds to gigabytes
            with Image.open(io.BytesIO(data), formats=tuple(TYPES)) as picture:
                return data, str(picture.format)
    except DataError:
        raise
    except Exception as error:  # the kinds of error of an image file are many
        raise DataError(f"its file {said} is no picture that can be read.") from error


def _share(sizes: list[int], budget: int) -> int:
    """The most bytes that a file may keep, so that all fit: the smaller ones keep theirs."""
    left = budget
    for n, size in enumerate(sizes := sorted(sizes)):
        if size * (len(sizes) - n) > left:
            return left // (len(sizes) - n)
        left -= size
    return budget


def _smaller(data: bytes, share: int) -> bytes:
    """The picture as JPEG of at most so many bytes (as near as a picture of 32 pixels comes)."""
    with Image.open(io.BytesIO(data)) as picture:
        image = picture.convert("RGB")
    for quality in (85, 70, 55, 40):
        if len(found := _jpeg(image, quality)) <= share:
            return found
    while max(image.size) > 32:
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.LANCZOS)
        if len(found := _jpeg(image, 70)) <= share:
            break
    return found


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
