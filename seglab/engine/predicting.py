"""predict: class ids, colours and overlays for image files, at their original size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from seglab import checkpoint
from seglab.checkpoint import Checkpoint
from seglab.data.folder_stats import to_channels
from seglab.data.module import collate
from seglab.data.reading import SUFFIXES
from seglab.data.reduced import MOST, read_reduced
from seglab.data.resizing import resize_image, scaled
from seglab.engine import assemble, disk, running, summary
from seglab.engine.inference import Predictor
from seglab.engine.journal import console
from seglab.engine.keys import check_top
from seglab.engine.object_files import ObjectFiles
from seglab.errors import DataError
from seglab.types import Spec
from seglab.viz.colors import colorize
from seglab.viz.overlay import overlay, to_rgb
from seglab.viz.panel import save


def predict(saved: Checkpoint, config: dict[str, Any], source: Path, output: Path) -> list[Path]:
    """Write masks/, colors/ and overlays/ for an image or a folder of images; the paths of the masks.

    Where the task separates objects, also what `ObjectFiles` writes.

    A file that cannot be read does not stop the others; at the end DataError names what was left out.
    """
    out = console()
    assemble.check_inference(check_top(config))
    read, suffixes = assemble.reader(config)
    files = find_images(source, suffixes)
    task = assemble.task(config, saved.spec, saved.state)
    checkpoint.restore(task, saved)
    predictor = Predictor(task, *running.where_to_run(config))
    objects = ObjectFiles(output, saved.spec)
    written, failed = [], []
    for name, path in track(files, "predicting", console=out, transient=True, disable=not out.is_terminal):
        try:
            image = to_channels(read(str(path)), saved.spec.channels, str(path))
            size, scale = image.shape[:2], config["data"].get("scale", 1.0)
            less = config["data"].get("reduced_jpeg", False) and scale <= MOST
            small = (
                read_reduced(str(path), image.shape[2], False, size, scale)
                if less
                else resize_image(image, scaled(size, scale))
            )
        except DataError as error:
            failed.append(str(error))
            continue
        blank = np.zeros(small.shape[:2], np.uint8)
        batch = collate([{"image": small, "mask": blank, "index": 0}])
        if task.separates:
            (ids,), (found,), (segments,) = predictor.objects(batch["image"], image.shape[:2])
        else:
            ids = predictor(batch["image"], image.shape[:2])[0]
        with disk.told(output):
            written.append(_write(output, name, image, ids, saved.spec))
            if task.separates:
                objects.add(name, path.relative_to(source) if source.is_dir() else path.name, image, found, segments)
    if task.separates:
        with disk.told(output):
            objects.close()
    out.print(f"{len(written)} of {len(files)} images", markup=False)
    summary.places(out, output, ("masks", "colors", "overlays", "instances", "objects", "instances.json"))
    if failed:
        raise DataError(f"{len(failed)} of {len(files)} images were left out; the first: {failed[0]}")
    return written


def find_images(source: Path, suffixes: Sequence[str] = SUFFIXES) -> list[tuple[str, Path]]:
    """(name without suffix, path) of an image file, or of all images below a folder; DataError if there are none."""
    if source.is_file():
        return [(source.stem, source)]
    if not source.is_dir():
        raise DataError(f"input={source} does not exist.")
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))
    if not found:
        raise DataError(f"input={source} holds no images ({', '.join(suffixes)}).")
    names = [str(p.relative_to(source).with_suffix("")) for p in found]
    twice = next((n for n in names if names.count(n) > 1), None) if len(set(names)) < len(names) else None
    if twice:
        raise DataError(f"input={source} holds several images named {twice}; their masks would overwrite each other.")
    return list(zip(names, found, strict=True))


def _write(output: Path, name: str, image: np.ndarray, ids: np.ndarray, spec: Spec) -> Path:
    """masks/<name>.png (8 or 16 bit ids; multilabel: one page of 0/255 a class in masks/<name>/), colors/, overlays/."""
    mask = output / "masks" / f"{name}.png"
    if spec.mode == "multilabel":
        for k, label in enumerate(spec.classes):
            label = re.sub(r"[^A-Za-z0-9_-]+", "_", label)  # a checkpoint's class names are not paths
            mask = output / "masks" / name / f"{k}_{label}.png"
            save(mask, (ids[..., k] * 255).astype(np.uint8))
    else:
        save(mask, ids.astype(np.uint8 if spec.num_classes <= 256 else np.uint16))
    for folder, picture in (("colors", colorize(ids, spec)), ("overlays", overlay(to_rgb(image), ids, spec))):
        save(output / folder / f"{name}.png", picture)
    return mask
