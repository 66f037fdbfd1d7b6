"""Panels of validation images: image, truth and prediction side by side, with errors or with objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seglab.data.module import DataModule, collate
from seglab.data.reduced import stored_size
from seglab.engine.inference import Predictor
from seglab.metrics.confusion import Confusion
from seglab.tasks.truth import truth
from seglab.types import Spec
from seglab.viz.objects import object_panel
from seglab.viz.panel import panel, save

Picture = tuple[str, np.ndarray]  # with its caption


def draw(predictor: Predictor, data: DataModule, split: str, count: int, folder: Path) -> list[Picture]:
    """Write up to `count` panels, evenly spread over the split, as PNG into `folder`; return (caption, picture)."""
    ids, dataset = data.source.ids(split), data.split(split)
    chosen = sorted({int(i) for i in np.linspace(0, len(ids) - 1, num=min(count, len(ids))).round()})
    pictures = []
    for index in chosen:
        image, batch = stored_size(data.source.load(split, index)), collate([dataset[0, index]])
        one = (_objects if data.instances else _classes)(predictor, batch, image, ids[index])
        save(folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', ids[index])}.png", one[1])
        pictures.append(one)
    return pictures


def _classes(predictor: Predictor, batch: dict[str, torch.Tensor], image: np.ndarray, name: str) -> Picture:
    mask, spec = batch["mask"].long(), predictor.task.spec
    prediction = predictor(batch["image"], mask.shape[-2:])[0]
    true = (mask[0].permute(1, 2, 0) if mask.ndim == 4 else mask[0]).numpy()
    title = f"{name} · IoU {_iou(prediction, mask, spec):.3f}"
    return title, panel(image, true, prediction, spec, title)


def _objects(predictor: Predictor, batch: dict[str, torch.Tensor], image: np.ndarray, name: str) -> Picture:
    mask, spec = batch["mask"].long(), predictor.task.spec
    ids, _, segments = predictor.objects(batch["image"], mask.shape[-2:])
    title = f"{name} · IoU {_iou(ids[0], mask, spec):.3f}"
    return title, object_panel(image, truth(batch)[0], segments[0], spec, title)


def _iou(ids: np.ndarray, mask: Any, spec: Spec) -> float:
    score = Confusion(spec, sync_on_compute=False)  # of several processes one draws
    one = torch.from_numpy(ids)[None]
    score.update(one.permute(0, 3, 1, 2) if one.ndim == 4 else one, mask)
    return float(score.compute()["iou"])
