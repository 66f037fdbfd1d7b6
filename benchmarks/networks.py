"""Every network of conf/model after the same short training from random weights: does it learn, and how large is it.

    python benchmarks/networks.py [--models unet,enet] [--write docs/networks.md] [override ...]

All get the same images (`data=cells`), steps and learning rate, so the table says that they work, not which is best:
most are made for pretrained weights, more steps and larger images. Exit code 1 if one stays below its floor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from seglab import results
from seglab.config import conf_dir, load, plain
from seglab.engine import fit
from seglab.errors import SeglabError

SETTINGS = [
    "data=cells", "data.size=96", "data.crop=null", "data.train=64", "data.val=8", "data.test=16", "data.batch_size=4", "augment=light",
    "optimizer=adamw", "optimizer.lr=1e-3", "trainer.max_epochs=10", "trainer.precision=32-true", "trainer.accelerator=cpu",
    "logger=none", "pictures=0",
]  # fmt: skip
LIGHTER = {
    "fcn8s": ["model.fc_channels=512"],  # 4096 is a hundred million weights more
    "mask_rcnn": ["model.encoder=resnet18", "model.width=64", "model.regions=128", "model.anchors=[8,16,32,64,128]"],
}
STEPS = 160
FLOOR = 0.40  # calling everything background has 0.28
MARKS = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = "| `model=` | parameters | test mIoU |\n|---|--:|--:|"


def choices(name: str) -> dict[str, str]:
    """The groups that the model's own file chooses."""
    read = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text()).get("defaults", [])
    return {
        k.removeprefix("override /").split("@")[0]: v for entry in read if isinstance(entry, dict) for k, v in entry.items()
    }


def train(name: str, overrides: list[str], folder: Path) -> str:
    """Train one network; its row of the table."""
    given = [f"model={name}", *SETTINGS, *LIGHTER.get(name, []), *overrides]
    fit(plain(load(given)), folder, {"model": name, "loss": "dice+ce", "data": "cells", **choices(name)}, given)
    found = results.read_results(folder)
    label = " ".join([name, *LIGHTER.get(name, [])])
    return f"| {label} | {found['parameters'] / 1e6:.2f} M | {found['metrics']['test/iou']:.3f} |"


def write(page: Path, rows: list[str]) -> None:
    """Put the rows into the table between the marks; rows of other networks stay."""
    text = page.read_text()
    before, after = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    old = [line for line in text[before:after].splitlines() if line.startswith("| ") and not line.startswith("| `model=`")]
    table = {line.split("|")[1].split()[0]: line for line in [*old, *rows]}
    page.write_text("\n".join([text[:before], HEAD, *(table[name] for name in sorted(table)), text[after:]]))


def main() -> None:
    """Train, print the table as it grows, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="names separated by commas; all of conf/model without it")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this file")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    names = args.models.split(",") if args.models else sorted(p.stem for p in (conf_dir() / "model").glob("*.yaml"))
    rows, low = [], []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows.append(train(name, args.overrides, Path(folder)))
            except SeglabError as error:
                sys.exit(f"{name}: {error}")
        print(rows[-1], file=sys.stderr, flush=True)
        if float(rows[-1].split("|")[3]) < FLOOR:
            low.append(name)
    print(f"{STEPS} steps of 4 images of 96x96, {torch.get_num_threads()} threads\n" + "\n".join([HEAD, *rows]))
    if args.write:
        write(args.write, rows)
    if low:
        sys.exit(f"below a mean IoU of {FLOOR}: {', '.join(low)}")


if __name__ == "__main__":
    main()
