"""Small pictures of images with their masks laid over them, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

_OBJECTS = 9  # colours of masks without classes


class Pair(Protocol):
    """An image H W C and, if it can be laid over it, the mask H W of class ids (another id: of no class)."""

    @property
    def image(self) -> np.ndarray: ...  # noqa: D102

    @property
    def mask(self) -> np.ndarray | None: ...  # noqa: D102


@dataclass(frozen=True)
class Drawn:
    """A thumbnail. image, overlay: data URIs, overlay '' where no mask lies on the image."""

    name: str
    width: int
    height: int
    image: str
    overlay: str


def draw(pair: Pair, name: str, classes: Sequence[str], ignore: int, side: int) -> Drawn:
    """The pair with its longest side `side` pixels; classes in the colours that seglab gives them, ids of none in magenta."""
    from seglab.types import Spec
    from seglab.viz.overlay import overlay, to_rgb  # OpenCV takes its time

    rgb = to_rgb(pair.image)
    laid = ""
    if pair.mask is not None:
        names = tuple(classes) or ("background", *(f"object {n}" for n in range(1, _OBJECTS)))
        spec = Spec(names, "multiclass", ignore if ignore >= len(names) or ignore < 0 else -1)
        laid = _uri(overlay(rgb, pair.mask, spec, alpha=0.55), side)
    scale = min(1.0, side / max(rgb.shape[:2]))
    height, width = (max(1, round(n * scale)) for n in rgb.shape[:2])
    return Drawn(name, width, height, _uri(rgb, side), laid)


def _uri(rgb: np.ndarray, side: int) -> str:
    picture, out = Image.fromarray(rgb), io.BytesIO()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    picture.save(out, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
