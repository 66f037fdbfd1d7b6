"""Mask R-CNN and a U-Net whose map is cut into objects, trained and scored on the same nuclei, in one table.

    python benchmarks/instances.py --root DIR_OF_NUCLEI --weights FILE --runs FOLDER [--write docs/instances.md]

Trains experiment=nuclei_mask_rcnn_cpu and experiment=nuclei_cpu (thirteen and five minutes on two cores) into FOLDER, or takes
the runs that are there, and scores the U-Net's best checkpoint by instances=components and instances=watershed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from seglab import checkpoint, results
from seglab.config import chosen, load, plain
from seglab.engine import evaluate, fit

MARKS = "<!-- table: begin -->", "<!-- table: end -->"
COLUMNS = {"ap": "AP", "ap50": "AP50", "f1_50": "F1@0.5", "f1_80": "F1@0.8", "aji": "AJI", "pq": "PQ", "iou": "foreground IoU"}
HEAD = f"| network | {' | '.join(COLUMNS.values())} |\n|---|{'--:|' * len(COLUMNS)}"


def trained(experiment: str, model: str, args: argparse.Namespace) -> Path:
    """The folder of a finished run of this experiment."""
    folder = args.runs / experiment
    if not (folder / "results.json").is_file():
        given = [f"experiment={experiment}", f"data.root={args.root}", f"model.weights={args.weights}", "logger=none"]
        fit(plain(load(given)), folder, {"model": model, "loss": "own", "data": "folder"}, given)
    return folder


def scored(folder: Path, instances: str) -> Path:
    """The folder of an evaluation of the run's best checkpoint, its map cut into objects in this way."""
    out = folder.parent / f"{folder.name}_{instances}"
    if not (out / "results.json").is_file():
        saved = checkpoint.load(folder / "checkpoints" / "best.ckpt")
        evaluate(saved, chosen(saved.config, "instances", instances), "test", out, [])
    return out


def row(name: str, folder: Path) -> str:
    """One line of the table."""
    found = results.read_results(folder)["metrics"]
    return f"| {name} | {' | '.join(format(found[f'test/{key}'], '.3f') for key in COLUMNS)} |"


def main() -> None:
    """Train, score, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this file")
    args = parser.parse_args()
    detector, unet = trained("nuclei_mask_rcnn_cpu", "mask_rcnn", args), trained("nuclei_cpu", "unet", args)
    rows = [row("Mask R-CNN", detector)]
    rows += [row(f"U-Net, `instances={way}`", scored(unet, way)) for way in ("watershed", "components")]
    table = "\n".join([HEAD, *rows])
    print(table)
    if args.write:
        text = args.write.read_text()
        before, after = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
        args.write.write_text(f"{text[:before]}\n{table}\n{text[after:]}")


if __name__ == "__main__":
    main()
