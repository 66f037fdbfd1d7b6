"""What becomes of jobs, by SLURM's word, or by a look at the processes of this machine."""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

LOOK = 10.0  # seconds between two questions to SLURM's controller, which all users of a cluster share
PATIENCE = 60.0  # seconds within which it answers


class Queue(Protocol):
    """The jobs of a scheduler."""

    def added(self, job: Any) -> None:
        """A job of submitit's was handed over."""

    def alive(self, job: str) -> bool:
        """Whether the job waits or runs, as far as is known."""

    def cancel(self, job: str, waiting: bool = False) -> None:
        """Cancel it; if `waiting`, only while it waits."""

    def why(self, job: str) -> str:
        """The state of a job that is gone: OUT_OF_MEMORY, NODE_FAIL, CANCELLED by 12, ..."""


def queue(cluster: str, folder: Path) -> Queue:
    """That of SLURM, or of this machine; `folder` is submitit's."""
    return SlurmQueue() if cluster == "slurm" else Processes(folder)


class SlurmQueue:
    """SLURM: squeue tells what is there, without accounting; sacct, where it works, what became of the rest."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.fresh: set[str] = set()  # submitted since the last look
        self.read = float("-inf")

    def added(self, job: Any) -> None:
        """It is in the queue from now on."""
        self.fresh.add(str(job.job_id))

    def alive(self, job: str) -> bool:
        """By one question for all jobs, each 10 seconds."""
        if time.monotonic() - self.read > LOOK:
            said = _said(["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i"])
            self.read = time.monotonic()
            if said is None:  # the controller is busy; nothing is known, so nothing has changed
                self.fresh.add(job)
            else:
                self.there, self.fresh = set(said.split()), set()
        return job in self.there or job in self.fresh

    def cancel(self, job: str, waiting: bool = False) -> None:
        """scancel."""
        _said(["scancel", *(["--state=PENDING"] if waiting else []), job])
        self.read = float("-inf")

    def why(self, job: str) -> str:
        """sacct."""
        said = _said(["sacct", "--noheader", "--allocations", "--parsable2", "--format", "State", "--jobs", job])
        return said.strip().splitlines()[-1] if said and said.strip() else "in a state that sacct does not tell"


class Processes:
    """submitit's processes of this machine; a job's number is that of its process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own = folder, dict[str, Any]()

    def added(self, job: Any) -> None:
        """It was started."""
        self.own[str(job.job_id)] = job

    def alive(self, job: str) -> bool:
        """Also that of an earlier session, which has another parent now."""
        if job in self.own:
            return self.own[job].get_info()["jobState"] == "RUNNING"
        try:
            return str(self.folder).encode() in Path("/proc", job, "cmdline").read_bytes()
        except OSError:
            return not Path("/proc/self").exists() and _exists(int(job))

    def cancel(self, job: str, waiting: bool = False) -> None:
        """The runner reads of it in the trial's folder."""

    def why(self, job: str) -> str:
        """Nobody knows."""
        return "its process has ended"


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _said(command: list[str]) -> str | None:
    """What the command prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
