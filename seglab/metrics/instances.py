"""The metric of data whose objects are told apart: COCO's AP (average_precision.py), F1, AJI and PQ (objects.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from seglab import rle
from seglab.errors import ConfigError
from seglab.metrics import average_precision, objects
from seglab.metrics.objects import Scene
from seglab.types import Instances, Spec


class InstanceScores(Metric):
    """AP of masks and boxes, F1 at five IoUs, AJI and PQ: as headline and for each class but the background.

    What was found and what is true in an image is kept as one line of JSON; all scores follow from the lines, sorted by
    index, each image once: they depend neither on order nor on batches or processes. Data without instances score NaN.
    """

    needs: ClassVar[str] = "instances"
    names: ClassVar[tuple[str, ...]] = (*average_precision.NAMES, *objects.NAMES)
    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    lines: list[Tensor]

    def __init__(self, spec: Spec, detections: int = 100, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        if detections < 1:
            raise ConfigError(f"metrics.objects.detections is {detections}; it must be at least 1 (100 in COCO).")
        self.spec, self.detections = spec, detections
        self.things = tuple(range(1, spec.num_classes)) if spec.instances else ()
        self.add_state("lines", [], dist_reduce_fx="cat")

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        index: Tensor,
        found: Sequence[Instances] | None = None,
        truth: Sequence[Instances] | None = None,
        segments: Sequence[Instances] | None = None,
    ) -> None:
        """Keep a batch. target: B H W ids, for its ignored pixels; index: B, each image's position in its split.

        found: for each image what was found, with scores; segments: the same without overlaps (None: found); truth: the
        true objects. `pred` is not used; without `found` nothing is kept. Raises ValueError for sizes that differ.
        """
        if found is None or not self.things:
            return
        if truth is None:
            raise ValueError("InstanceScores needs the true objects beside those that were found.")
        void = target == self.spec.ignore_index
        some = void.flatten(1).any(1).tolist()
        shared = found if segments is None else segments
        for i, (place, one, other, true) in enumerate(zip(index.tolist(), found, shared, truth, strict=True)):
            sizes = {one.size, other.size, true.size, tuple(target.shape[-2:])}
            if len(sizes) > 1:
                raise ValueError(f"Image {place} of the split: objects and mask differ in size (H, W): {sorted(sizes)}.")
            line = _line(place, one, other, true, _void(void[i].cpu().numpy(), true) if some[i] else None)
            self.lines.append(torch.frombuffer(bytearray(line), dtype=torch.uint8).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """The headline numbers by name, 0-d float64 on the CPU. Over several processes: of all their images."""
        scenes = self._scenes()
        numbers, columns = average_precision.scores(scenes, self.things, self.detections)
        shapes = objects.scores(scenes, self.things)
        # Kept for per_class: outside compute the state is one process's own.
        self._columns = columns | shapes
        for name in objects.NAMES:
            finite = shapes[name][np.isfinite(shapes[name])]
            numbers[name] = float(finite.mean()) if finite.size else float("nan")
        return {name: torch.tensor(numbers[name], dtype=torch.float64) for name in self.names}

    def per_class(self) -> dict[str, dict[str, float]]:
        """ap, ap50, box_ap, f1_50, pq, aji and objects (how many are true) by class name; NaN where nothing can be scored.

        It calls `compute` where that is due, which every process then has to join.
        """
        self.compute()
        shown = ("ap", "ap50", "box_ap", "f1_50", "pq", "aji")
        return {
            self.spec.classes[k]: {
                **{name: float(self._columns[name][c]) for name in shown},
                "objects": int(self._columns["objects"][c]),
            }
            for c, k in enumerate(self.things)
        }

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the lines of all processes (torchmetrics), also where this one saw no image."""
        # torchmetrics would send a float32 placeholder, which the other processes read as bytes.
        if isinstance(self.lines, list) and not self.lines:
            self.lines = [torch.zeros(0, dtype=torch.uint8, device=self.device)]
        super().sync(*args, **kwargs)

    def _scenes(self) -> list[Scene]:
        """Each image once, by index."""
        lines = torch.cat(self.lines) if isinstance(self.lines, list) and self.lines else self.lines
        text = lines.cpu().numpy().tobytes() if isinstance(lines, Tensor) else b""
        # Of an image that occurs twice the same line is taken whatever their order, should they differ in a last digit.
        rows = {row["index"]: row for row in map(json.loads, sorted(text.splitlines(), reverse=True))}
        return [_scene(rows[place]) for place in sorted(rows)]


def _void(ignored: np.ndarray, truth: Instances) -> bytes | None:
    """The run lengths of the pixels in `ignored` (bool H W) that no true object covers; None if there are none."""
    void = rle.encode(ignored[None])[0]
    inside = rle.overlaps(truth.rles, [void], truth.size)[:, 0] > 0
    if inside.any():
        left = ignored & ~objects.union([one for one, k in zip(truth.rles, inside, strict=True) if k], truth.size)
        return rle.encode(left[None])[0] if left.any() else None
    return void


def _line(index: int, found: Instances, segments: Instances, truth: Instances, void: bytes | None) -> bytes:
    """One image as a line of JSON, whose numbers come back to the last bit."""
    row: dict[str, Any] = {"index": index, "size": found.size, "found": _plain(found), "truth": _plain(truth)}
    if segments is not found:
        row["segments"] = _plain(segments)
    if void is not None:
        row["void"] = void.decode("ascii")
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _plain(some: Instances) -> list[Any]:
    arrays = (some.labels, some.scores, some.crowd, some.boxes)
    return [[one.decode("ascii") for one in some.rles], *(np.asarray(array).tolist() for array in arrays)]


def _scene(row: dict[str, Any]) -> Scene:
    """What `_line` wrote."""

    def read(plain: list[Any]) -> Instances:
        rles, labels, scores, crowd, boxes = plain
        return rle.instances([one.encode("ascii") for one in rles], row["size"], labels, scores, crowd, boxes)

    found = read(row["found"])
    void = row["void"].encode("ascii") if "void" in row else None
    return Scene(found, read(row["segments"]) if "segments" in row else found, read(row["truth"]), void)
