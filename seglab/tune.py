"""Try out a configuration before training with it, on its own data, network and loss.

python -m seglab.tune lr [group=choice ...] [key=value ...]       which learning rate?
python -m seglab.tune batch [group=choice ...] [key=value ...]    how many images per step?

Everything else on the line is what python -m seglab.train takes:  model=fpn data=folder data.root=DIR optimizer=sgd

lr      raises the rate from step to step until the loss breaks (Smith 2017, arXiv:1506.01186), draws the curve into lr.png,
        lists the parameter groups and suggests a rate.  steps=100 min=1e-7 max=1 say how it is swept.
batch   tries steps of 1, 2, 4 ... images: the largest that fits into the GPU with a tenth of its memory to spare; on a CPU the
        fastest, as far as memory reaches. Measures memory and images per second.

Nothing that is learnt is kept. Files go into output=DIR (default: outputs/tune/<date>/<time>).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from seglab.config import arguments, compose, plain_door
from seglab.errors import ConfigError, nearest

KEYS: dict[str, dict[str, Any]] = {"lr": {"output": None, "steps": 100, "min": 1e-7, "max": 1.0}, "batch": {"output": None}}


def run(argv: list[str]) -> None:
    """One trial, from the command line's arguments."""
    command, *rest = argv
    if command not in KEYS:
        raise ConfigError(f"tune {command}: the first word is lr or batch.{nearest(command, KEYS)}")
    keys = KEYS[command]
    ours = [a for a in rest if a.split("=")[0] in keys]
    own, _ = arguments(ours, keys, ())
    overrides = [a for a in rest if a not in ours]
    config, picked = compose(overrides)

    from seglab.engine import tuning

    name = " | ".join(picked[group] for group in ("model", "loss", "data"))
    folder = Path(str(own["output"] or f"outputs/tune/{datetime.now():%Y-%m-%d/%H-%M-%S}"))
    job = tuning.Job(config, folder, name, overrides)
    if command == "lr":
        tuning.tune_lr(job, own["steps"], own["min"], own["max"])
    else:
        tuning.tune_batch(job)


def main() -> None:
    """`python -m seglab.tune`."""
    plain_door(run, __doc__)


if __name__ == "__main__":
    main()
