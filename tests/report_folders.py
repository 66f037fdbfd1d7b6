"""Run folders with every file that a report reads, made of random numbers instead of training."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seglab.metrics.definitions import class_scores
from seglab.report.reading import BINS
from seglab.stats.scores import headline

CONFIG = "model:\n  _target_: seglab.models.tiny.Tiny\n  width: 16\noptimizer:\n  lr: 0.02\nmonitor: val/iou\nmode: auto\nseed: 3\nname: {name}\n"
EPOCHS, SIZE = 12, (96, 72)


def run_folder(
    folder: Path, names: Sequence[str] = ("background", "cell", "dust"), images: int = 12, seed: int = 0,
    ids: Sequence[str] | None = None, name: str = "null",
) -> Path:  # fmt: skip
    """A finished run of classes `names` whose numbers agree with each other; returns the folder."""
    rng, k = np.random.default_rng(seed), len(names)
    ids = list(ids or (f"image_{n:03}" for n in range(images)))
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(CONFIG.format(name=name), encoding="utf-8")
    confusions = np.stack([_confusion(rng, k) for _ in ids])
    tp = np.diagonal(confusions, 0, 1, 2)
    counts = np.stack([tp, confusions.sum(1) - tp, confusions.sum(2) - tp], -1)
    confusion, truth = confusions.sum(0), counts.sum(0)[:, 0] + counts.sum(0)[:, 2]
    lines = [[image, *row.reshape(-1).tolist()] for image, row in zip(ids, counts, strict=True)]
    _table(folder / "per_image.csv", ["image", *(f"{n}/{c}" for n in names for c in ("tp", "fp", "fn"))], lines)
    ignored = rng.integers(0, 500, k).tolist()
    rows = [[n, *row] for n, row in zip([*names, "(ignored)"], [*confusion.tolist(), ignored], strict=True)]
    _table(folder / "confusion.csv", ["truth", *names], rows)
    _table(folder / "confidence.csv", ["class", "bin", "pixels", "right"], _confidence(rng, names, truth))
    _table(folder / "metrics.csv", ["epoch", "step", "lr", "train/loss", "val/loss", "val/iou"], _curves(rng))
    content = _results(rng, list(names), counts, len(ids))
    (folder / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _examples(folder / "examples", rng, ids)
    return folder


def change(folder: Path, **parts: Any) -> Path:
    """The folder with parts of its results.json replaced."""
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | parts), encoding="utf-8")
    return folder


def _confusion(rng: np.random.Generator, k: int) -> np.ndarray:
    size = rng.integers(200, 4000, k)
    shares = rng.dirichlet(np.full(k, 0.4), k) * rng.uniform(0.02, 0.4, (k, 1)) + np.eye(k) * rng.uniform(0.5, 1, (k, 1))
    return np.round(size[:, None] * shares / shares.sum(1, keepdims=True)).astype(np.int64)


def _confidence(rng: np.random.Generator, names: Sequence[str], truth: np.ndarray) -> list[list[Any]]:
    bins = np.arange(BINS)
    lines = []
    for n, (name, pixels) in enumerate(zip(["(decoded)", *names], [int(truth.sum()), *truth.tolist()], strict=True)):
        share = np.exp(bins / 18) + (0 if n == 0 else 3000 * np.exp(-bins / 12))
        many = np.round(pixels * share / share.sum()).astype(int)
        steep = 1 if n == 0 else rng.uniform(0.6, 4)
        chance = np.clip((bins / BINS) ** steep * 0.93 + rng.uniform(-0.03, 0.03, BINS), 0, 1)
        first = int(BINS / len(names)) if n == 0 else 0
        lines += [[name, b, int(many[b]), int(many[b] * chance[b])] for b in bins if many[b] and b >= first]
    return lines


def _curves(rng: np.random.Generator) -> list[list[Any]]:
    fall = np.exp(-np.arange(EPOCHS) / 4)
    train, val = 0.2 + fall + 0.02 * rng.random(EPOCHS), 0.28 + fall + 0.04 * rng.random(EPOCHS)
    iou = 0.8 - 0.6 * fall + 0.03 * rng.random(EPOCHS)
    return [
        [n, 8 * (n + 1), 0.02 * (1 - n / EPOCHS), train[n], *(("", "") if n % 2 == 0 else (val[n], iou[n]))]
        for n in range(EPOCHS)
    ]


def _results(rng: np.random.Generator, names: list[str], counts: np.ndarray, images: int) -> dict[str, Any]:
    totals = counts.sum(0)
    scores = class_scores(*totals.T)
    test = {
        n: {
            **{key: float(v[i]) for key, v in scores.items()},
            "pixel_ap": float(rng.random()),
            "support": int(totals[i, 0] + totals[i, 2]),
        }
        for i, n in enumerate(names)
    }
    value = float(headline(totals, range(len(names))))
    return {
        "schema": 1, "status": "finished", "seed": 3, "choices": {"model": "tiny", "loss": "dice+ce"}, "overrides": ["seed=3"],
        "monitor": "val/iou", "score": value + 0.01,
        "metrics": {
            "val/loss": 0.3, "val/iou": value + 0.01, "test/loss": 0.31, "test/iou": value, "test/accuracy": 0.91,
            "test/ece": 0.0374, "test/ap": 0.41, "test/aji": None,
        },
        "per_class": {"val": test, "test": test},
        "data": {
            "name": "made", "classes": names, "colors": rng.integers(0, 256, (len(names), 3)).tolist(),
            "counts": {"train": 48, "val": 16, "test": images}, "fingerprint": "df0b74408daa4aa8",
        },
        "parameters": 28355, "speed": {"train_images_per_s": 41.7}, "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "git": {"commit": "f653139ecfd0844d69c643188cdd55e7020284ee", "dirty": True}, "seconds": 123.456, "error": None, "resumed": None,
        "not_deterministic": None,
        "ledger": {"epochs": EPOCHS, "samples": 48 * EPOCHS, "per_class": {n: _seen(rng) for n in names}},
        "passport": {
            "split": "test", "value": value, "definition": "Counts are summed over all images, then IoU per class, then the mean over the classes that occur.",
            "others": [
                {"name": "mean over images", "value": value + 0.04, "definition": "The IoU of each image, then the mean."},
                {"name": "absent classes count 0", "value": None, "definition": "A class in neither truth nor prediction scores 0."},
            ],
        },
    }  # fmt: skip


def _seen(rng: np.random.Generator) -> dict[str, int]:
    images = int(rng.integers(1, 48 * EPOCHS))
    return {"pixels": images * 700, "images": images, "aimed": images // 3}


def _examples(folder: Path, rng: np.random.Generator, ids: Sequence[str]) -> None:
    folder.mkdir()
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    entries = []
    for n, (kind, image) in enumerate(zip(("best", "median", "worst"), [ids[0], ids[len(ids) // 2], ids[-1]], strict=True)):
        middle = rng.uniform(0.3, 0.7, 2) * SIZE
        disk = np.hypot(x - middle[0], y - middle[1])
        grey = np.repeat((60 + 120 * np.exp(-disk / 20) + 10 * rng.random(disk.shape))[..., None], 3, -1)
        files = {}
        for layer, radius, color in (
            ("image", 0, 0),
            ("truth", 20, (60, 160, 90)),
            ("prediction", 17, (60, 160, 90)),
            ("errors", 20, (64, 140, 255)),
        ):
            drawn = np.where((disk < radius)[..., None], 0.4 * grey + 0.6 * np.array(color), grey).astype(np.uint8)
            files[layer] = f"{n:02}-{layer}.jpg"
            Image.fromarray(drawn).save(folder / files[layer], quality=90)
        entries.append({"id": image, "kind": kind, "iou": 0.9 - 0.3 * n, "width": SIZE[0], "height": SIZE[1], "files": files})
    (folder / "examples.json").write_text(json.dumps({"split": "test", "images": entries}), encoding="utf-8")


def _table(path: Path, header: list[str], lines: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([header, *lines])
