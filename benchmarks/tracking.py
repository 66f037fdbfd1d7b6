"""What Weights & Biases costs a run: the same training with logger=wandb (offline) and with logger=none, in turn.

    python benchmarks/tracking.py [--rounds 4] [--epochs 3] [override ...]

Each run is the real command in a process of its own. Three views, from the surest to the noisiest:
the clock around every call that goes to W&B, as a share of the run that made them; the CPU time of both runs of a round,
W&B's own process and loader workers included; their wall time. The latter two are ratios of the two runs of a round, whose order
alternates; on a shared machine they vary by more than logging costs, which is why the first is there.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")


def below(pid: int) -> list[int]:
    """The processes that a process started, directly or not."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(int(status.parent.name))
        except OSError:  # it has ended
            continue
    found, rest = [], [pid]
    while rest:
        children = parents.get(rest.pop(), [])
        found += children
        rest += children
    return found


def cpu() -> float:
    """CPU seconds of this process and of those it started, so far."""
    total = time.process_time()
    for pid in below(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:13])) / TICK
    return total


class Clock:
    """Seconds within the calls that go to W&B: before, in, and after training. Of nested calls the outermost counts."""

    def __init__(self) -> None:
        self.spent = {"before": 0.0, "training": 0.0, "after": 0.0}
        self.phase, self.calls, self.depth = "before", 0, 0

    def around(self, owner: Any, name: str) -> None:
        """Put the clock around a function."""
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun, self.depth = time.perf_counter(), self.depth + 1
            try:
                return inner(*args, **kwargs)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.spent[self.phase] += time.perf_counter() - begun
                    self.calls += self.phase == "training"

        setattr(owner, name, timed)


def child(report: str, arguments: list[str]) -> None:
    """Run the command here, with clocks, and write what they say."""
    from lightning.pytorch.loggers import WandbLogger

    from seglab.engine import trackers, wandb_page
    from seglab.engine.keeping import Keep

    clock, marks = Clock(), {}
    for owner, name in (
        (trackers, "loggers"), (wandb_page, "define_axes"), (WandbLogger, "log_metrics"), (WandbLogger, "save"),
        (wandb_page, "summarize"), (trackers, "report"), (wandb_page, "close"),
    ):  # fmt: skip
        clock.around(owner, name)
    start, end = Keep.on_train_start, Keep.on_train_end

    def started(*args: Any) -> None:
        start(*args)
        clock.phase, marks["start"] = "training", (time.perf_counter(), cpu())

    def ended(*args: Any) -> None:
        clock.phase, marks["end"] = "after", (time.perf_counter(), cpu())
        end(*args)

    Keep.on_train_start, Keep.on_train_end = started, ended
    sys.argv = ["seglab.train", *arguments]
    runpy.run_module("seglab.train", run_name="__main__")
    wall, busy = (after - before for before, after in zip(marks["start"], marks["end"], strict=True))
    Path(report).write_text(json.dumps({"wall": wall, "cpu": busy, "calls": clock.calls, **clock.spent}))


def one(logger: str, folder: Path, overrides: list[str]) -> dict[str, float]:
    """A run of the command: what its clocks say, and wall and CPU time of it all (W&B's process is waited for)."""
    report = folder / "report.json"
    command = [
        sys.executable,
        __file__,
        "--child",
        str(report),
        f"logger={logger}",
        f"hydra.run.dir={folder / 'run'}",
        *overrides,
    ]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "WANDB_MODE": "offline"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"logger={logger} ended with {os.waitstatus_to_exitcode(status)}")
    whole = {"whole wall": time.perf_counter() - begun, "whole cpu": usage.ru_utime + usage.ru_stime}
    return {**json.loads(report.read_text()), **whole}


def spread(values: list[float], form: str) -> str:
    """Median, and the least and the greatest."""
    return f"{statistics.median(values):{form}}  ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Run in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    for n in range(args.rounds):
        found = {}
        for logger in ("wandb", "none") if n % 2 else ("none", "wandb"):
            with tempfile.TemporaryDirectory() as folder:
                found[logger] = one(logger, Path(folder), [f"trainer.max_epochs={args.epochs}", *args.overrides])
        rounds.append(found)
        print(f"round {n + 1}: training {found['none']['wall']:.1f} s without, {found['wandb']['wall']:.1f} s with", flush=True)
    tracked = [found["wandb"] for found in rounds]
    print(f"calls to W&B in training, of its time   {spread([100 * r['training'] / r['wall'] for r in tracked], '.3f')} %")
    print(
        f"  one of {tracked[0]['calls']:.0f} calls                       {spread([1e3 * r['training'] / r['calls'] for r in tracked], '.2f')} ms"
    )
    print(f"before training: import, start          {spread([r['before'] for r in tracked], '.2f')} s")
    print(f"after it: tables, pictures, end         {spread([r['after'] for r in tracked], '.2f')} s")
    for label, key in (
        ("training, CPU", "cpu"),
        ("training, wall", "wall"),
        ("command, CPU", "whole cpu"),
        ("command, wall", "whole wall"),
    ):
        print(f"{label:<15} with : without          {spread([r['wandb'][key] / r['none'][key] for r in rounds], '.3f')}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        main()
