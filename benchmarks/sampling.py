"""What rare-class sampling does where it is meant to help: a class of 0.05 % of the pixels, with and without, at equal steps.

python benchmarks/sampling.py [--out DIR] [--seeds 3] [--epochs 40]

Draws 60 scenes of textured ground and fields, every third training scene and all test scenes with one small mark, trains the smallest network on random crops with
data.sampling=null and {mark: 0.5}, and prints seglab.compare's verdict on each class.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIZE, MARK = 192, (6, 9)  # a mark in every third scene: 54 of 110,592 pixels, 0.05 %
SPLITS = {"train": 33, "val": 3, "test": 24}


def draw(root: Path, seed: int = 0) -> float:
    """Write the set into `root`, in the layout of data=folder; the share of the training pixels that are marks."""
    rng, marks = np.random.default_rng(seed), 0
    for split, count in SPLITS.items():
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for n in range(count):
            image, mask = scene(rng, marked=split == "test" or n % 3 == 0)
            Image.fromarray(image).save(root / split / "images" / f"{n:03}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{n:03}.png")
            marks += int((mask == 2).sum()) * (split == "train")
    (root / "classes.json").write_text(json.dumps({"classes": ["ground", "field", "mark"]}))
    return marks / (SPLITS["train"] * SIZE**2)


def scene(rng: np.random.Generator, marked: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask: fields are darker ground, a mark is a bright bar, lying or standing."""
    mask = (gaussian_filter(rng.normal(size=(SIZE, SIZE)), 14, mode="wrap") > 0.015).astype(np.uint8)
    light = 120 - 40 * mask + 14 * rng.normal(size=mask.shape)
    height, width = MARK if rng.random() < 0.5 else MARK[::-1]
    row, column = rng.integers(0, SIZE - height), rng.integers(0, SIZE - width)
    place = np.s_[row : row + height, column : column + width]
    if marked:
        mask[place], light[place] = 2, light[place] + 70
    image = light[..., None] + rng.normal(size=(SIZE, SIZE, 3)) * 6
    return np.clip(image, 0, 255).astype(np.uint8), mask


def study(root: Path, runs: Path, seeds: int, epochs: int) -> str:
    """Train with and without; what compare says of it."""
    settings = [
        "data=folder", f"data.root={root}", "data.crop=[48,48]", "data.batch_size=8", "data.num_workers=0", "model=tiny", "loss=dice+ce",
        f"trainer.max_epochs={epochs}", f"trainer.check_val_every_n_epoch={epochs}", "trainer.accelerator=cpu", "logger=none",
        "pictures=0", "optimizer.lr=1e-2", "augment=none", "data.sampling=null,{mark:0.5}", f"seed={','.join(map(str, range(1, seeds + 1)))}",
        "hydra.launcher.per_trial=1", f"hydra.sweep.dir={runs}",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "seglab.train", "-m", *settings], check=True, stdout=subprocess.DEVNULL)
    asked = [sys.executable, "-m", "seglab.compare", str(runs), "--classes", "--baseline=null"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Draw, train, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="keep the set and the runs here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = told.out or Path(folder)
        share = draw(out / "scenes")
        print(f"marks are {share:.3%} of the training pixels\n", flush=True)
        print(study(out / "scenes", out / "runs", told.seeds, told.epochs))


if __name__ == "__main__":
    main()
