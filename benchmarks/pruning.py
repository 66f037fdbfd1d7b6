"""What pruning spares: the same study with and without, in trained epochs, and the best score that each finds.

    python benchmarks/pruning.py [--output DIR] [--seed 0] [override ...]

20 trials of a small network on the drawn cells over learning rate, weight decay and loss, two at once on the CPUs. Learning
rates of the whole range are asked for, as one does who knows nothing: a third of the trials learn next to nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from seglab.sweep.folder import Sweep

COMMAND = [
    sys.executable, "-m", "seglab.train", "-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log, interval(1e-5, 1e-1))",
    "optimizer.weight_decay=tag(log, interval(1e-4, 1e-1))", "loss=ce,dice+ce", "model=tiny", "data=cells", "data.size=64",
    "data.crop=null", "data.train=64", "data.val=16", "data.test=4", "data.batch_size=4", "data.num_workers=0", "test=false",
    "trainer.max_epochs=16", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=none", "pictures=0",
    "keep.every_minutes=null", "hydra.launcher.devices=cpu", "hydra.launcher.per_trial=0.5", "hydra.sweeper.trials=20",
]  # fmt: skip


def main() -> None:
    """Run both studies, one after the other, and print a line for each and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="where the studies are kept; else in a temporary folder")
    parser.add_argument("--seed", type=int, default=0, help="of the suggestions")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, epochs = args.output or Path(temporary), {}
        for pruner in ("none", "median"):
            path = folder / pruner
            own = [f"hydra.sweep.dir={path}", f"hydra.sweeper.pruner={pruner}", f"hydra.sweeper.seed={args.seed}"]
            subprocess.run([*COMMAND, *args.overrides, *own], check=True, stdout=subprocess.DEVNULL)
            sweep = Sweep.read(path)
            best, epochs[pruner] = sweep.best(), sum(trial.epoch for trial in sweep.trials)
            counts = f"{sweep.count('finished')} finished, {sweep.count('pruned')} pruned, {sweep.count('failed')} failed"
            found = f"best {best.monitor} {best.score:.4f} (trial {best.number}, {best.name()})" if best else "no score"
            seconds = sum(trial.seconds for trial in sweep.trials)
            print(f"pruner={pruner:7} {epochs[pruner]:4} epochs  {seconds:5.0f} s of trials  {counts}  {found}", flush=True)
        print(f"epochs with pruning / without: {epochs['median'] / epochs['none']:.2f}")


if __name__ == "__main__":
    main()
