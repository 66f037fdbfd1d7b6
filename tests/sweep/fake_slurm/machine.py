"""A cluster of one node with two GPUs, as far as submitit and seglab look at it: `machine.py COMMAND ARGUMENTS`.

$FAKE_SLURM is its memory: a folder for each job, with its `script`, its `state`, `ask` (what a test has SLURM do to it:
USR2, TERM, or a state in which it is killed) and the flags `requeue`, `cancel`. A file `hold` keeps jobs from starting,
`refuse` is what sbatch says no with, `calls` lists who asked what.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_SLURM"])
OVER = ("COMPLETED", "FAILED", "CANCELLED by 0", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")


def state(job: Path, new: str | None = None) -> str:
    """The state of a job, or its new one."""
    if new is not None:
        (job / ".state").write_text(new)
        (job / ".state").rename(job / "state")
    return (job / "state").read_text()


def jobs() -> list[Path]:
    return [p.parent for p in sorted(HOME.glob("*/state"))]


def sbatch(script: str) -> None:
    if (HOME / "refuse").exists():
        sys.exit((HOME / "refuse").read_text())
    number = next(n for n in range(1, 1000) if not (HOME / str(n)).exists())
    job = HOME / str(number)
    job.mkdir()
    (job / "script").write_text(Path(script).read_text())
    state(job, "PENDING")
    null = subprocess.DEVNULL
    run = [sys.executable, __file__, "run", str(number)]
    keeper = subprocess.Popen(run, stdin=null, stdout=null, stderr=null, start_new_session=True)
    (job / "keeper").write_text(str(keeper.pid))
    print(f"Submitted batch job {number}")


def run(number: str) -> None:
    """What the scheduler does with a job, from its turn to its end."""
    job, restarts = HOME / number, 0
    while True:
        while (HOME / "hold").exists() or (gpu := free()) is None:
            if (job / "cancel").exists():
                state(job, "CANCELLED by 0")
                return
            time.sleep(0.05)
        (job / "gpu").write_text(gpu)
        state(job, "RUNNING")
        told = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "node7", "SLURM_RESTART_COUNT": str(restarts),
                "CUDA_VISIBLE_DEVICES": gpu, "SLURM_JOB_NUM_NODES": "1"}  # fmt: skip
        last = end(job, subprocess.Popen(["bash", str(job / "script")], env={**os.environ, **told}, start_new_session=True))
        if not (job / "requeue").exists():
            state(job, last)
            return
        (job / "requeue").unlink()
        restarts += 1
        state(job, "PENDING")
        time.sleep(0.3)


def free() -> str | None:
    """A GPU that no job has; jobs are few, and a race between two of them is avoided by a lock."""
    import fcntl

    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = {(job / "gpu").read_text() for job in jobs() if (job / "gpu").exists() and state(job) in ("RUNNING", "TAKEN")}
        left = sorted({"0", "1"} - taken)
        if left:
            mine = HOME / sys.argv[2]
            (mine / "gpu").write_text(left[0])
            state(mine, "TAKEN")
        return left[0] if left else None


def end(job: Path, script: subprocess.Popen) -> str:
    """Do to its processes what is asked, until they have ended; the job's last state."""
    died = None
    while script.poll() is None:
        time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError):
            ask = (job / "ask").read_text()
            (job / "ask").unlink()
            if ask in OVER:
                died = ask
                kill(script, signal.SIGKILL)
                script.kill()
            else:
                kill(script, getattr(signal, f"SIG{ask}"))
        if (job / "cancel").exists() or (job / "requeue").exists():
            died = "CANCELLED by 0"
            kill(script, signal.SIGTERM if (job / "cancel").exists() else signal.SIGKILL)
            time.sleep(1)
            kill(script, signal.SIGKILL)
            script.kill()
    return died or ("COMPLETED" if script.returncode == 0 else "FAILED")


def kill(script: subprocess.Popen, number: int) -> None:
    """To all processes of the job but its shell, as the simplest of SLURM's ways to track processes does it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(re.sub(r".*\) . ", "", path.read_text(), flags=re.S).split()[0])
    found = [script.pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    for one in found[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, number)


def srun(*words: str) -> None:
    """The job's one step: this process becomes it."""
    words, number = list(words), os.environ["SLURM_JOB_ID"]
    while words[0].startswith("--"):
        word = words.pop(0)
        if word in ("--output", "--error"):
            file = os.open(words.pop(0).replace("%j", number).replace("%t", "0"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1 if word == "--output" else 2)
    step = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    os.environ.update(step)
    os.execvp(words[0], words)


def squeue(*words: str) -> None:
    print("\n".join(job.name for job in jobs() if state(job) not in OVER))


def sacct(*words: str) -> None:
    print(state(HOME / words[-1]))


def scancel(*words: str) -> None:
    job = HOME / words[-1]
    if "--state=PENDING" not in words or state(job) == "PENDING":
        (job / "cancel").touch()


def scontrol(what: str, number: str) -> None:
    (HOME / number / what).touch()


if __name__ == "__main__":
    with (HOME / "calls").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    globals()[sys.argv[1]](*sys.argv[2:])
