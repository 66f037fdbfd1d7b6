"""How a list or a folder of a million images starts: seconds to the first step, memory of the run and of its workers.

python benchmarks/scale.py [--images 1000000] [--kind list|folder] [--place DIR] [--json] [key=value ...]

It draws 300 images of 64x64, names them a million times by links, trains a small network on them for a few steps, and does
the same with a list of 200 lines beside it. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from lightning.pytorch.callbacks import Callback

REAL, IN_ONE, SMALL = 300, 30, 200
SETTINGS = [
    "model=tiny", "logger=none", "pictures=0", "test=false", "trainer.max_epochs=1", "trainer.limit_train_batches=12",
    "trainer.accelerator=cpu", "data.num_workers=2", "data.batch_size=8",
]  # fmt: skip


class Seen(NamedTuple):
    """Seconds, and CPU seconds, until the first training step was done; memory in MB.

    `peak`: all of the process, the code of shared libraries too; `own`: without that; `worker`: what the largest worker has
    for itself.
    """

    seconds: float
    cpu: float
    peak: float
    own: float
    worker: float


class FirstStep(Callback):
    """Writes down when the first training step is done."""

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: D102
        if not (file := Path(os.environ["FIRST_STEP"])).exists():
            file.write_text(f"{time.time()} {time.process_time()}")


def draw(root: Path) -> None:
    """300 small images and masks, 30 to a folder."""
    rng = np.random.default_rng(0)
    for n in range(REAL):
        folder = root / "real" / str(n // IN_ONE)
        folder.mkdir(parents=True, exist_ok=True)
        mask = (rng.random((8, 8)) > 0.5).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        image = (np.stack([mask * 90] * 3, -1) + rng.integers(0, 60, (64, 64, 3))).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n % IN_ONE:02}_image.png"), image)
        cv2.imwrite(str(folder / f"{n % IN_ONE:02}_mask.png"), mask)


def write_lists(root: Path, count: int) -> list[str]:
    """train.csv with `count` distinct paths, through links to the folders of real images; val.csv and small.csv."""
    with (root / "train.csv").open("w") as file:
        file.write("image,mask\n")
        for clip in range(-(-count // IN_ONE)):
            place = f"scenes/{clip // 1000:03}/clip_{clip:06}"
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).symlink_to(root / "real" / str(clip % (REAL // IN_ONE)), target_is_directory=True)
            some = range(min(IN_ONE, count - clip * IN_ONE))
            file.writelines(f"{place}/{n:02}_image.png,{place}/{n:02}_mask.png\n" for n in some)
    real = [f"real/{n // IN_ONE}/{n % IN_ONE:02}_image.png,real/{n // IN_ONE}/{n % IN_ONE:02}_mask.png\n" for n in range(REAL)]
    (root / "small.csv").write_text("".join(["image,mask\n", *real[:SMALL]]))
    (root / "val.csv").write_text("".join(["image,mask\n", *real[SMALL:]]))
    return ["data=list", f"data.train={root}/train.csv", f"data.val={root}/val.csv"]


def write_folder(root: Path, count: int) -> list[str]:
    """train/{images,masks} with `count` hard links, 1000 to a folder."""
    for split, images in (("train", range(count)), ("val", range(REAL - SMALL))):
        for n in images:
            for kind in ("image", "mask"):
                folder = root / split / f"{kind}s" / f"{n // 1000:04}"
                if n % 1000 == 0:
                    folder.mkdir(parents=True)
                os.link(root / f"real/{n % REAL // IN_ONE}/{n % IN_ONE:02}_{kind}.png", folder / f"{n:07}.png")
    return ["data=folder", f"data.root={root}"]


def watch(settings: list[str], run: Path) -> Seen:
    """Train in the folder `run`, and look at the memory of the processes twenty times a second."""
    began, first, said = time.time(), run / "first_step", run / "said"
    run.mkdir()
    here = Path(__file__).resolve().parent
    paths = {"FIRST_STEP": str(first), "SEGLAB_TRUST": "scale", "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    command = [
        sys.executable,
        "-m",
        "seglab.train",
        *settings,
        f"hydra.run.dir={run}/run",
        "+callbacks.first._target_=scale.FirstStep",
    ]
    with said.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | paths)
    peak = own = worker = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak, own = max(peak, _number(status, "VmHWM")), max(own, _number(status, "RssAnon"))
            if first.exists():
                worker = max([worker, *map(_private, _children(process.pid))])
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"The run failed:\n{said.read_text()}")
    then, cpu = map(float, first.read_text().split())
    return Seen(then - began, cpu, peak, own, worker)


def _number(text: str, name: str) -> float:
    """A number of /proc, which are in KiB, in MB; 0 if it is not there."""
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _private(process: int) -> float:
    """The memory that a process shares with no other, in MB; 0 for one that has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(_number(text, f"Private_{kind}") for kind in ("Clean", "Dirty"))


def main() -> None:
    """Print the figures of the large set, and of a list of 200 lines beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("list", "folder"), default="list")
    parser.add_argument("--place", help="where the files are made (a folder in memory makes a million links faster)")
    parser.add_argument("--json", action="store_true")
    args, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="seglab-scale-", dir=args.place) as place:
        root = Path(place)
        draw(root)
        large = write_lists(root, args.images)
        small = ["data=list", f"data.train={root}/small.csv", f"data.val={root}/val.csv"]
        if args.kind == "folder":
            large = write_folder(root, args.images)
        found = {
            SMALL: watch([*SETTINGS, *small, *more], root / "a"),
            args.images: watch([*SETTINGS, *large, *more], root / "b"),
        }
    if args.json:
        print(json.dumps({images: seen._asdict() for images, seen in found.items()}))
        return
    print("images     first step     CPU    memory  of its own  a worker's own")
    for images, seen in found.items():
        print(
            f"{images:<9}  {seen.seconds:8.1f} s  {seen.cpu:4.1f} s  {seen.peak:5.0f} MB  {seen.own:7.0f} MB  {seen.worker:11.0f} MB"
        )


if __name__ == "__main__":
    main()
