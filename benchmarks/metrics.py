"""Time one metric update: seglab's confusion engine against a torchmetrics collection of the same numbers.

    python benchmarks/metrics.py [--device cuda] [--json]

Both run in turns in one process; the medians and their ratio are printed. From predictions: class ids go in. From
logits: the decoding is part of the update; on a CPU most of our time goes there, and max(1) takes half of argmax(1).
(torchmetrics' classification metrics take logits; its MeanIoU takes ids and so is left out of that comparison.)
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from statistics import median

import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from seglab.metrics.confusion import Confusion
from seglab.types import Spec


def collection(classes: int, ignore: int | None) -> MetricCollection:
    """Mean IoU, IoU by class, F1, accuracy, pixel accuracy, with torchmetrics' defaults, as its documentation shows them."""
    common = {"num_classes": classes, "ignore_index": ignore}
    return MetricCollection(
        {
            "miou": MeanIoU(num_classes=classes, input_format="index"),
            "iou": MulticlassJaccardIndex(average="none", **common),
            "f1": MulticlassF1Score(average="macro", **common),
            "accuracy": MulticlassAccuracy(average="macro", **common),
            "pixel_accuracy": MulticlassAccuracy(average="micro", **common),
        }
    )


def clock(steps: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, float]:
    """Median milliseconds of each step; the steps take turns, so that the machine's moods meet all of them."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):  # the first turn warms up
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"classes": 19, "batch": 4, "size": 512, "repeats": 7, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")

    # Blocks of 32 pixels: runs of one class, as in a picture, rather than noise.
    coarse = torch.randint(args.classes, (args.batch, args.size // 32, args.size // 32), device=args.device)
    target = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)
    logits = torch.randn(args.batch, args.classes, *target.shape[1:], device=args.device)
    logits.scatter_add_(1, target[:, None], torch.full_like(logits[:, :1], 2.0))
    pred, index = logits.argmax(1), torch.arange(args.batch, device=args.device)

    spec = Spec(classes=tuple(f"c{k}" for k in range(args.classes)))
    ours = Confusion(spec, per_image=True).to(args.device)
    # No void pixel in the target: MeanIoU refuses one. ignore_index=255 only adds the test for it, on both sides.
    theirs = collection(args.classes, 255).to(args.device)
    from_logits = MetricCollection({k: m for k, m in collection(args.classes, 255).items() if k != "miou"}).to(args.device)
    steps: dict[str, Callable[[], None]] = {
        "seglab, predictions": lambda: ours.update(pred, target, index),
        "torchmetrics, predictions": lambda: theirs.update(pred, target),
        "seglab, logits": lambda: ours.update(logits.max(1).indices, target, index),
        "torchmetrics, logits (without MeanIoU)": lambda: from_logits.update(logits, target),
    }
    ms = clock(steps, args.repeats, args.device)
    names = list(steps)
    ratios = {"predictions": ms[names[1]] / ms[names[0]], "logits": ms[names[3]] / ms[names[2]]}
    if args.json:
        print(json.dumps({"settings": vars(args), "milliseconds": ms, "times_faster": ratios}))
        return
    for name, value in ms.items():
        print(f"{name:<40}{value:>10.2f} ms per update")
    print(f"seglab is {ratios['predictions']:.0f} times faster from predictions, {ratios['logits']:.0f} times from logits")


if __name__ == "__main__":
    main()
