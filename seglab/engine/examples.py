"""The best, the median and the worst scored images, drawn for the report: examples/examples.json and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from seglab import results
from seglab.data.module import DataModule, collate
from seglab.data.reduced import stored_size
from seglab.engine.inference import Predictor
from seglab.metrics.definitions import class_scores
from seglab.viz.panel import TILES, save, tiles

EACH = 3  # images of each kind
FOLDER = "examples"


def examples(predictor: Predictor, data: DataModule, split: str, run: Path) -> None:
    """Draw the images whose mIoU in the run's per_image.csv is lowest, in the middle and highest; nothing without them."""
    if not (run / "per_image.csv").is_file():
        return
    names, _, counts = results.read_per_image(run / "per_image.csv")
    spec, ids, dataset = predictor.task.spec, data.source.ids(split), data.split(split)
    ious = class_scores(counts[..., 0], counts[..., 1], counts[..., 2])["iou"][:, list(spec.scored)]
    scored = np.flatnonzero(np.isfinite(ious).any(1))
    means = np.array([np.nanmean(ious[n]) for n in scored])
    places = {name: n for n, name in enumerate(ids)}
    images: list[dict[str, Any]] = []
    for kind, chosen in choose(means).items():
        for n in chosen:
            name = names[scored[n]]
            index = places[name]
            batch = collate([dataset[0, index]])
            mask = batch["mask"].long()
            true = (mask[0].permute(1, 2, 0) if mask.ndim == 4 else mask[0]).numpy()
            prediction = predictor(batch["image"], mask.shape[-2:])[0]
            drawn = dict(zip(TILES, tiles(stored_size(data.source.load(split, index)), true, prediction, spec), strict=True))
            files = {tile: f"{len(images):02}-{tile}.jpg" for tile in TILES}
            for tile, picture in drawn.items():
                save(run / FOLDER / files[tile], picture)
            height, width = drawn["image"].shape[:2]
            size = {"width": width, "height": height}
            images.append({"id": name, "kind": kind, "iou": float(means[n]), **size, "files": files})
    if images:
        with results.replacing(run / FOLDER / "examples.json") as file:
            json.dump({"split": split, "images": images}, file, indent=1)


def choose(scores: np.ndarray) -> dict[str, list[int]]:
    """Positions of up to EACH scores of each kind, none twice: the lowest first, the highest first, around the median."""
    order = np.argsort(scores, kind="stable").tolist()
    each = min(EACH, -(-len(order) // 3))
    worst, rest = order[:each], order[each:]
    best, rest = rest[::-1][:each], rest[: max(len(rest) - each, 0)]
    start = max((len(rest) - each) // 2, 0)
    return {"worst": worst, "median": rest[start : start + each], "best": best}
