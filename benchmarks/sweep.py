"""What a sweep costs beside its trials: the time around each, and the memory and CPU time of the process that keeps it.

python benchmarks/sweep.py [--trials 5] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = (
    "model=tiny", "data.size=48", "data.train=8", "data.val=4", "data.test=4", "data.batch_size=4", "data.num_workers=0",
    "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none", "pictures=0",
)  # fmt: skip
TICK = os.sysconf("SC_CLK_TCK")


def seconds(folder: Path, *arguments: str) -> float:
    """Wall time of a training command."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "seglab.train", *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - began


def around(trials: int, repeats: int) -> tuple[float, float]:
    """(seconds of the command alone, seconds that a trial of a sweep takes beside them), medians of alternating runs."""
    seeds = ",".join(map(str, range(1, trials + 2)))
    alone, more = [], []
    with tempfile.TemporaryDirectory() as name:
        for n in range(repeats):
            folder = Path(name)
            one = seconds(folder, "-m", *TINY, "seed=1", f"hydra.sweep.dir=one{n}")
            single = [seconds(folder, *TINY, f"seed={k + 2}", f"hydra.run.dir=run{n}-{k}") for k in range(trials)]
            many = seconds(folder, "-m", *TINY, f"seed={seeds}", f"hydra.sweep.dir=many{n}")
            alone += single
            more.append((many - one - sum(single)) / trials)  # the sweep's own start is in both
    return statistics.median(alone), statistics.median(more)


def keeper() -> tuple[float, float]:
    """(MB, CPU share of one core) of the sweep's process while two trials run for some 40 s."""
    command = [
        sys.executable, "-m", "seglab.train", "-m", *TINY, "trainer.max_epochs=100", "data.train=64", "seed=1,2",
        "hydra.launcher.per_trial=0.5",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        status = Path("/proc", str(process.pid))
        time.sleep(5)
        began, first, peak = time.perf_counter(), ticks(status), 0.0
        while process.poll() is None and time.perf_counter() - began < 40:
            peak = max(peak, *(int(v.split()[1]) / 1024 for v in (status / "status").read_text().splitlines() if "VmHWM" in v))
            last, now = ticks(status), time.perf_counter()
            time.sleep(0.5)
        process.terminate()
        process.wait()
    return peak, (last - first) / TICK / (now - began)


def ticks(status: Path) -> int:
    """CPU time of a process so far."""
    fields = (status / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    memory, share = keeper()
    print(f"the sweep's process   {memory:.0f} MB at most, {100 * share:.1f} % of one core")
    alone, more = around(given.trials, given.repeats)
    print(f"a trial's command     {alone:.2f} s alone, {more:+.2f} s more as a trial")


if __name__ == "__main__":
    main()
