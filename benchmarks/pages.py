"""Time and memory of compare and report on many runs.

    python benchmarks/pages.py [--runs 50 500] [--images 1000]

The runs are made of numbers (tests/compare_folders.py): 16 settings, as many seeds as it takes, three classes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from compare_folders import counts, make

MEASURE = (
    "import resource, runpy, sys; sys.argv[0] = sys.argv.pop(1);\n"
    "try: runpy.run_module(sys.argv[0], run_name='__main__')\n"
    "finally: print([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1], file=sys.stderr)"
)


def main() -> None:  # noqa: D103
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, nargs="*", default=[50, 500])
    asked.add_argument("--images", type=int, default=1000)
    given = asked.parse_args()
    for many in given.runs:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "sweep")
            for n in range(many):
                rows = counts(given.images, quality=0.6 + 0.01 * (n % 16), seed=n)
                make(
                    root / str(n),
                    rows,
                    seed=n // 16,
                    loss=("ce", "dice", "focal", "dice+ce")[n % 4],
                    lr=10 ** -(2 + n // 4 % 4),
                )
            for module in ("compare", "report"):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                done = subprocess.run(
                    [sys.executable, "-c", MEASURE, f"seglab.{module}", str(root)], capture_output=True, text=True
                )
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                memory = int(done.stderr.split()[-1]) / 1000
                size = f", {Path(root, 'report.html').stat().st_size / 1e6:.2f} MB" if module == "report" else ""
                print(f"{many:>5} runs  {module:<8}{cpu:5.1f} s of CPU, {memory:4.0f} MB of memory{size}")


if __name__ == "__main__":
    main()
