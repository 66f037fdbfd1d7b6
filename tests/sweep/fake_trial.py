"""A trial without training: `fake_trial.py FOLDER SECONDS KIND`. It writes what a run writes, and when it had which device."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, seconds: float, kind: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    first = not (folder / "began").exists()
    (folder / "began").touch()
    moment = {
        "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "began": time.time(),
    }
    ranks = [name for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT") if name in os.environ]
    epochs = 4
    for epoch in range(epochs):
        time.sleep(seconds / epochs)
        rows = [f"{e},{0.1 * (e + 1):.2f}" for e in range(epoch + 1)]
        (folder / "metrics.csv").write_text("epoch,val/iou\n" + "\n".join(rows) + "\n")
        if kind == "kill" or (kind == "kill once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "raise":
            raise ValueError("[red]the data are wrong[/red] \x1b[31m")
        if kind == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
        if kind == "memory":
            resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
            print(len(bytearray(2**30)))
    moment |= {"ended": time.time(), "ranks": ranks}
    (folder / "moment.json").write_text(json.dumps(moment))
    (folder / "results.json").write_text(json.dumps({"status": "finished", "monitor": "val/iou", "score": 0.4 + seconds / 100}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
