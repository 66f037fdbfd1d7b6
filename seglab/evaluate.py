"""Score a checkpoint: `python -m seglab.evaluate ckpt=FILE [split=test] [data.root=DIR] [output=DIR]`.

The configuration is the one inside the checkpoint; data.*, trainer.*, task.* and metrics.* may be overridden, and
instances=watershed (or components) scores the objects that a map of classes makes. The numbers equal the run's own test to
the last digit on one machine. Writes results.json and per_image.csv into output (default: outputs/<date>/<time>).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from seglab.config import arguments, chosen, override, plain_door

KEYS = {"ckpt": str, "split": "test", "output": None, "instances": None}
MAY_CHANGE = ("data", "trainer", "instances", "task", "metrics")


def run(argv: list[str]) -> None:
    """One evaluation, from the command line's arguments."""
    own, overrides = arguments(argv, KEYS, MAY_CHANGE)

    from seglab import checkpoint, engine
    from seglab.engine.evaluating import check_split

    split = check_split(own["split"])
    saved = checkpoint.load(own["ckpt"])
    trainer = {**saved.config["trainer"], "fast_dev_run": False, "devices": 1}
    config = override(chosen({**saved.config, "trainer": trainer}, "instances", own["instances"]), overrides)
    folder = own["output"] or f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S}"
    engine.evaluate(saved, config, split, Path(folder), argv)


def main() -> None:
    """`python -m seglab.evaluate`."""
    plain_door(run, __doc__)


if __name__ == "__main__":
    main()
