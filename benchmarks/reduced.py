"""data.reduced_jpeg: how far its pixels are from the ordinary way, and how much faster it is.

python benchmarks/reduced.py --root DIR [--times 4] [--cut 3]

The images of DIR/train/images (at most 100, enlarged by --times, without their last --cut rows and columns) are saved as JPEG of
quality 90 in a temporary folder, and read both ways. "JPEG" is what that compression itself does to the pixels at this scale. CPU time of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from seglab.data.folder_scan import even_sample
from seglab.data.folder_stats import read_alike
from seglab.data.reduced import read_reduced
from seglab.data.resizing import resize_image, scaled


def best(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """The least CPU time of five calls: others work on this machine, too."""
    took, found = [], work()
    for _ in range(5):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return min(took), found


def measure(files: list[tuple[str, np.ndarray]], scale: float) -> str:
    """One line of the table."""
    seconds, differences, losses = [0.0, 0.0], [], []
    for path, original in files:
        size = original.shape[:2]
        took, exact = best(lambda: resize_image(read_alike(path, 3, False), scaled(size, scale)))  # noqa: B023
        less, near = best(lambda: read_reduced(path, 3, False, size, scale))  # noqa: B023
        seconds = [seconds[0] + took, seconds[1] + less]
        differences.append(np.abs(exact.astype(int) - near).ravel())
        losses.append(np.abs(exact.astype(int) - resize_image(original, scaled(size, scale))).mean())
    every = np.concatenate(differences)
    return (
        f"{scale:<6} {every.mean():5.2f} {np.percentile(every, 99):8.0f} {every.max():6d} {np.mean(losses):6.2f} "
        f"{1000 * seconds[0] / len(files):7.2f} {1000 * seconds[1] / len(files):7.2f} {seconds[0] / seconds[1]:6.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--cut", type=int, default=0)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    sources = even_sample(sorted((asked.root / "train" / "images").iterdir()), 100 // asked.times)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for source in sources:
            image = Image.open(source).convert("RGB")
            image = image.resize((image.width * asked.times, image.height * asked.times), Image.Resampling.BICUBIC)
            image = image.crop((0, 0, image.width - asked.cut, image.height - asked.cut))
            image.save(f"{folder}/{source.stem}.jpg", quality=90)
            files.append((f"{folder}/{source.stem}.jpg", np.asarray(image)))
        print(f"{len(files)} images, {files[0][1].shape[0]} x {files[0][1].shape[1]}; differences of 255, ms of CPU an image")
        print("scale   mean  99 % <=    max   JPEG   exact reduced  times")
        for scale in (0.5, 0.375, 0.25, 0.125):
            print(measure(files, scale))


if __name__ == "__main__":
    main()
