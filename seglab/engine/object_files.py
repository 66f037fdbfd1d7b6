"""What predict leaves of objects: a map of ids and a picture for each image, and one file in COCO's form for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from seglab import results, rle
from seglab.errors import DataError
from seglab.types import Instances, Spec
from seglab.viz.objects import paint
from seglab.viz.panel import save

_MOST = 65535  # ids that 16 bits hold


class ObjectFiles:
    """instances/<name>.png (16 bits: 0 background, 1..N the objects that share the pixels, the most certain first),
    objects/<name>.png (painted on the image), and instances.json: all that was found, with scores and run lengths.

    The JSON's categories are the classes by their id; an annotation's `score` is how certain it is.
    """

    def __init__(self, output: Path, spec: Spec) -> None:
        self.output, self.spec = output, spec
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: str, file: str | Path, image: np.ndarray, found: Instances, segments: Instances) -> None:
        """Write the pictures of one image and remember its objects; DataError if there are more than 16 bits can number."""
        if len(segments.rles) > _MOST:
            raise DataError(f"{file} shows {len(segments.rles)} objects, more than the {_MOST} that a 16-bit mask can number.")
        order = np.argsort(-segments.scores, kind="stable")
        ids = np.zeros(segments.size, np.uint16)
        for number, n in enumerate(order, 1):
            ids[rle.decode([segments.rles[n]], segments.size)[0]] = number
        save(self.output / "instances" / f"{name}.png", ids)
        save(self.output / "objects" / f"{name}.png", paint(image, segments, self.spec))
        height, width = found.size
        self.images.append({"id": len(self.images) + 1, "file_name": str(file), "height": height, "width": width})
        for n in np.argsort(-found.scores, kind="stable"):
            self.annotations.append(self._annotation(found, n))

    def _annotation(self, found: Instances, n: int) -> dict[str, Any]:
        left, top, right, bottom = found.boxes[n].tolist()
        return {
            "id": len(self.annotations) + 1, "image_id": len(self.images), "category_id": int(found.labels[n]),
            "score": float(found.scores[n]), "bbox": [left, top, right - left, bottom - top], "iscrowd": 0,
            "area": int(rle.areas([found.rles[n]], found.size)[0]),
            "segmentation": {"size": list(found.size), "counts": found.rles[n].decode()},
        }  # fmt: skip

    def close(self) -> None:
        """Write instances.json."""
        categories = [{"id": k, "name": name} for k, name in enumerate(self.spec.classes) if k]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        self.output.mkdir(parents=True, exist_ok=True)
        with results.replacing(self.output / "instances.json") as file:
            json.dump(content, file)
