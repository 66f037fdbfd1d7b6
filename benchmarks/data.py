"""Training images per second that the loader gives, against a hand-written one, and with each cache.

    python benchmarks/data.py --root ../shared/data/camvid [--rounds 5] [--images 367]

Hand-written: cv2 reads image and mask, albumentations flips, scales and brightens as augment=light does, numpy stacks. All in one
process and one thread, taken in turn; ratios are taken round by round, and their median counts. The two loaders are told apart by
CPU time in short turns of 96 images, because on a shared machine whole epochs by the clock differ by a tenth from themselves.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch

from seglab.config import load, plain
from seglab.engine import assemble

BATCH, SHORT = 8, 96


def by_hand(root: Path, count: int) -> float:
    """Seconds for `count` training images in batches."""
    files = sorted((root / "train" / "images").iterdir())[:count]
    transform = A.Compose([A.HorizontalFlip(p=0.5), A.RandomScale(scale_limit=(-0.25, 0.5), p=0.5), A.PadIfNeeded(360, 480),
                           A.RandomCrop(360, 480), A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5)])  # fmt: skip
    start = time.perf_counter()
    batch = []
    for path in files:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(root / "train" / "masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        done = transform(image=image, mask=mask)
        batch.append((done["image"], done["mask"]))
        if len(batch) == BATCH:
            torch.from_numpy(np.stack([image for image, _ in batch])).permute(0, 3, 1, 2)
            torch.from_numpy(np.stack([mask for _, mask in batch]))
            batch = []
    return time.perf_counter() - start


def in_turns(root: Path, turns: int) -> list[float]:
    """CPU seconds of the hand-written loader over those of seglab's, for each turn of SHORT images."""
    ours, found = loader(root, SHORT), []
    for _ in range(turns + 1):
        start = time.process_time()
        by_hand(root, SHORT)
        middle = time.process_time()
        ours()
        found.append((middle - start) / (time.process_time() - middle))
    return sorted(found[1:])  # the first warms up


def loader(root: Path, count: int, *more: str):
    """A function that gives the seconds of one epoch of seglab's loader, another epoch each time."""
    config = plain(load(["data=folder", f"data.root={root}", f"data.batch_size={BATCH}", "data.num_workers=0", "data.crop=null",
                         f"data.limit={count}", *more]))  # fmt: skip
    data = assemble.datamodule(config, assemble.source(config)).train_dataloader()
    epochs = iter(range(1000))

    def one() -> float:
        data.batch_sampler.set_epoch(next(epochs))
        start = time.perf_counter()
        for _ in data:
            pass
        return time.perf_counter() - start

    return one


def main() -> None:  # noqa: D103
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--root", type=Path, required=True)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--images", type=int, default=367)
    given = asked.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    given.images -= given.images % BATCH
    turns = in_turns(given.root, 4 * given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        first = {"none": [], "ram": [], "disk": []}
        for n in range(given.rounds):  # epoch 1 of a cache, each time of a new one
            for kind in first:
                place = [f"data.cache_dir={folder}/{n}"] if kind == "disk" else []
                first[kind].append(loader(given.root, given.images, f"data.cache={kind}", *place)())
                for old in Path("/dev/shm").glob(f"seglab-*-{os.getpid()}-*"):
                    shutil.rmtree(old)
        ways = {
            "by hand": lambda: by_hand(given.root, given.images),
            "none": loader(given.root, given.images),
            "ram": loader(given.root, given.images, "data.cache=ram"),
            "disk": loader(given.root, given.images, "data.cache=disk", f"data.cache_dir={folder}/again"),
            "ram, no augmentation": loader(given.root, given.images, "data.cache=ram", "augment=none"),
            "none, no augmentation": loader(given.root, given.images, "augment=none"),
        }
        for one in ways.values():
            one()
        seconds = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, one in ways.items():
                seconds[name].append(one())

    def ratio(over: list[float], under: list[float]) -> str:
        found = sorted(a / b for a, b in zip(over, under, strict=True))
        return f"{statistics.median(found):.2f}  ({found[0]:.2f} to {found[-1]:.2f})"

    for name, found in seconds.items():
        print(f"{name:<24}{given.images / statistics.median(found):8.1f} images/s")
    print(f"seglab / by hand        {ratio(seconds['by hand'], seconds['none'])}")
    print(
        f"in CPU time             {statistics.median(turns):.2f}  ({turns[len(turns) // 4]:.2f} to {turns[-len(turns) // 4]:.2f}: half of the turns)"
    )
    for kind in ("ram", "disk"):
        print(f"cache={kind:<5} / none      {ratio(seconds['none'], seconds[kind])}")
        print(f"its first epoch / none  {ratio(first[kind], first['none'])}  (time)")
    print(f"ram / none, augment=none {ratio(seconds['none, no augmentation'], seconds['ram, no augmentation'])}")


if __name__ == "__main__":
    main()
