"""Run folders as the engine leaves them, made of numbers instead of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seglab import results
from seglab.stats.scores import headline

CONFIG = """\
model:
  _target_: seglab.models.tiny.Tiny
  width: 16
loss:
{loss}
optimizer:
  lr: {lr}
monitor: val/iou
mode: auto
seed: {seed}
name: null
pictures: 0
"""


def counts(images: int = 20, classes: int = 3, quality: float = 0.7, seed: int = 0, truth_seed: int = 0) -> np.ndarray:
    """tp, fp, fn of each image and class, (N, K, 3); images have their difficulty, seeds their luck."""
    rng, own = np.random.default_rng(truth_seed), np.random.default_rng(1000 + seed)
    truth = rng.integers(100, 1000, (images, classes))
    found = quality + 0.08 * rng.standard_normal((images, classes)) + 0.01 * own.standard_normal()
    tp = np.round(truth * np.clip(found + 0.02 * own.standard_normal((images, classes)), 0.01, 0.99)).astype(np.int64)
    return np.stack([tp, truth - tp, truth - tp], -1)


def make(
    folder: Path, rows: np.ndarray, *, seed: int = 0, loss: str = "ce", lr: float = 0.001, val: float = 0.5,
    names: list[str] | None = None, ids: list[str] | None = None, scored: list[int] | None = None, **changed: Any,
) -> Path:  # fmt: skip
    """A finished run's folder; `changed` replaces parts of results.json, `fingerprint` that of its data."""
    images, classes = rows.shape[:2]
    names = names or [f"class{k}" for k in range(classes)]
    ids = ids or [f"image_{n:03}" for n in range(images)]
    (folder / ".hydra").mkdir(parents=True)
    terms = "\n".join(f"  {term}:\n    weight: 1.0" for term in loss.split("+"))
    (folder / ".hydra" / "config.yaml").write_text(CONFIG.format(loss=terms, lr=lr, seed=seed))
    numbered = np.concatenate([np.arange(images)[:, None], rows.reshape(images, -1)], 1)
    results.write_per_image(folder / "per_image.csv", ids, numbered, names)
    data = {"name": "made", "classes": names, "counts": {"test": images}, "fingerprint": changed.pop("fingerprint", "f")}
    test = float(headline(rows.sum(0), scored or range(classes)))
    content = {
        "status": "finished", "seed": seed, "choices": {"model": "tiny", "loss": loss}, "overrides": [f"loss={loss}"],
        "monitor": "val/iou", "score": val, "metrics": {"test/iou": test}, "per_class": {}, "data": data,
        "parameters": 28355, "speed": {"train_images_per_s": 40.0}, "versions": {}, "git": None, "seconds": 12.0,
    }  # fmt: skip
    results.write_results(folder, {**content, **changed})
    return folder


def sweep(folder: Path, seeds: int = 3, images: int = 20, better: float = 0.1) -> Path:
    """Runs of ce and of dice+ce, which is better by so much."""
    for n, loss in enumerate(("ce", "dice+ce")):
        for seed in range(seeds):
            rows = counts(images, quality=0.7 + better * n, seed=10 * n + seed)
            make(folder / str(n * seeds + seed), rows, seed=seed, loss=loss, val=0.5 + 0.1 * n)
    return folder
