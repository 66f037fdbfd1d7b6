"""Trials as jobs of SLURM, one each, submitted by submitit; or, to try that out, as submitit's processes on this machine.

Jobs outlive the sweep's process. Trial.job is a job's number, by which a later session takes it over.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab.errors import ConfigError
from seglab.sweep import remote
from seglab.sweep.backend import Order
from seglab.sweep.pool import ENDED
from seglab.sweep.queues import Queue, queue
from seglab.sweep.slurm_job import Job
from seglab.sweep.trial import Trial

LOOK = 0.5  # seconds between two looks at a trial's files
LATE = 30.0  # seconds by which the word of a job's end may follow its end
OURS = {"nodes", "ntasks", "ntasks-per-node", "signal", "output", "error", "open-mode", "array", "time", "job-name"}


@dataclass(frozen=True)
class Settings:
    """What a trial's job is asked for: the keys of conf/hydra/launcher/slurm.yaml."""

    cluster: str = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    minutes: int = 240
    gpus: str | int = "auto"
    cpus: int = 8
    memory_gb: float | None = 32
    parallel: int = 32
    requeues: int = 100
    signal_delay_s: int = 120
    setup: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """ConfigError for a value that cannot be, or a cluster that is not here."""
        if self.cluster not in ("slurm", "local"):
            raise ConfigError(f"hydra.launcher.cluster={self.cluster}; it must be slurm, or local for a try on this machine.")
        for name, least in {"minutes": 1, "cpus": 1, "parallel": 1, "requeues": 0, "signal_delay_s": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"hydra.launcher.{name}={value}; it must be a whole number of at least {least}.")
        if self.gpus != "auto" and (not isinstance(self.gpus, int) or isinstance(self.gpus, bool) or self.gpus < 0):
            raise ConfigError(f"hydra.launcher.gpus={self.gpus}; it must be auto, or a whole number of GPUs for each trial.")
        if self.memory_gb is not None and not (isinstance(self.memory_gb, int | float) and self.memory_gb > 0):
            raise ConfigError(f"hydra.launcher.memory_gb={self.memory_gb}; it must be above 0, or null.")
        if self.signal_delay_s >= 60 * self.minutes:
            raise ConfigError(
                f"hydra.launcher.signal_delay_s={self.signal_delay_s} leaves nothing of minutes={self.minutes}; make it less."
            )
        if taken := sorted(OURS & {str(key).replace("_", "-") for key in self.more}):
            raise ConfigError(f"hydra.launcher.more holds {taken[0]}, which seglab sets itself; leave it out.")
        if self.cluster == "slurm" and (missing := [c for c in ("sbatch", "srun", "squeue", "scancel") if not shutil.which(c)]):
            raise ConfigError(
                f"hydra/launcher=slurm needs the command {missing[0]}, which is not here; start it on a login node of the "
                f"cluster, or leave hydra/launcher=slurm out."
            )


class Handle:
    """A trial's job."""

    def __init__(self, trial: Trial, folder: Path, job: str, log: Path, queued: Queue) -> None:
        self.trial, self.folder, self.job, self.log, self.queue = trial, folder, job, log, queued
        self.code: int | None = None
        self.next, self.gone = 0.0, float("inf")
        self.cancelled = self.killed = False
        trial.job, trial.place = job, f"job {job}"

    def poll(self) -> int | None:
        """The trial's exit code, by its runner's word; if there is none, by what the scheduler says of the job."""
        now = time.monotonic()
        if self.code is None and now >= self.next:
            self.next = now + LOOK
            if (place := remote.place(self.folder)) is not None:
                self.trial.place = f"job {self.job} on {place['node']}" + (f":{place['devices']}" if place["devices"] else "")
            self.code = remote.left(self.folder)
            if self.code is None:
                self.gone = min(self.gone, now) if not self.queue.alive(self.job) else float("inf")
                if now - self.gone > (0 if self.cancelled else LATE):
                    self.code = self._verdict()
            if self.code is not None:
                self.trial.job = None
        return self.code

    def end(self) -> None:
        """Have it save and leave; one that waits for its turn is taken out of the queue."""
        remote.request(self.folder, "end")
        if remote.place(self.folder) is None:
            self.cancelled = True
            self.queue.cancel(self.job, waiting=True)

    def kill(self) -> None:
        """Cancel the job."""
        if not self.killed:
            self.killed = self.cancelled = True
            remote.request(self.folder, "kill")
            self.queue.cancel(self.job)

    def _verdict(self) -> int:
        if self.cancelled:
            return -signal.SIGKILL
        why = self.queue.why(self.job)
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            remote.say(self.folder, "\n".join(line for line in lines[-8:] if line.strip()))
        if why.startswith("OUT_OF_ME"):
            remote.say(self.folder, f"job {self.job} ran out of memory; raise hydra.launcher.memory_gb")
            return 137
        remote.say(self.folder, f"JobError: job {self.job} is gone, without a word of its trial: {why}")
        return 1


class Slurm:
    """The queue of a cluster."""

    def __init__(self, settings: Settings, folder: Path, name: str) -> None:
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.settings, self.folder, self.name = settings, folder, name
        self.queue = queue(settings.cluster, folder)
        self.running: list[Handle] = []
        if settings.cluster == "slurm":
            self.executor: Any = submitit.SlurmExecutor(folder, max_num_timeout=settings.requeues)
        else:
            self.executor = submitit.LocalExecutor(folder, max_num_timeout=settings.requeues)

    def describe(self) -> str:
        """The queue in words."""
        if self.settings.cluster == "local":
            return f"submitit's processes on this machine, at most {self.settings.parallel} at once"
        where = f" (partition {self.settings.partition})" if self.settings.partition else ""
        return f"jobs of SLURM{where}, at most {self.settings.parallel} at once"

    def slots(self) -> int:
        """How many jobs are in the queue at once."""
        return self.settings.parallel

    def start(self, trial: Trial, order: Order) -> Handle | None:
        """Submit a job, or take over that of an earlier session; None while `parallel` jobs are there."""
        self.running = [handle for handle in self.running if handle.code is None]
        if len(self.running) >= self.settings.parallel:
            return None
        if trial.job is not None:
            code, asked = remote.left(order.folder), remote.requested(order.folder)
            if code is None and self.queue.alive(trial.job):
                return None if asked else self._handle(trial, order, trial.job)  # None: the earlier session is ending it
            if code == 0 or (code is not None and code not in ENDED and not asked):
                return self._handle(trial, order, trial.job)
        if remote.busy(order.folder):
            return None
        gpus = max(1, trial.devices) if self.settings.gpus == "auto" else int(self.settings.gpus)
        cores = self.settings.cpus * max(1, gpus)
        trial.threads, told = remote.threads(cores, trial.devices, trial.threads)
        remote.prepare(order.folder)
        return self._handle(trial, order, self._submit(trial, remote.task(order, told), gpus, cores))

    def _handle(self, trial: Trial, order: Order, job: str) -> Handle:
        self.running.append(Handle(trial, order.folder, job, self.folder / f"{job}_0_log.err", self.queue))
        return self.running[-1]

    def _submit(self, trial: Trial, task: dict[str, Any], gpus: int, cores: int) -> str:
        """The number of the new job. ConfigError, with the scheduler's own words, if it is refused."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        s = self.settings
        if s.cluster == "slurm":
            wanted = {"partition": s.partition, "account": s.account, "qos": s.qos, "gpus_per_node": gpus or None,
                      "mem": f"{round(1024 * s.memory_gb * max(1, gpus))}M" if s.memory_gb else None}  # fmt: skip
            self.executor.update_parameters(
                job_name=re.sub(r"[^\w.-]", "-", f"{self.name}.{trial.number}"), time=s.minutes, nodes=1, ntasks_per_node=1,
                cpus_per_task=cores, signal_delay_s=s.signal_delay_s, setup=list(s.setup) or None,
                additional_parameters={str(k).replace("_", "-"): v for k, v in s.more.items()},
                # Since SLURM 22.05 a step does not inherit it from its job, and would be bound to one core.
                srun_args=[f"--cpus-per-task={cores}"], **{k: v for k, v in wanted.items() if v is not None},
            )  # fmt: skip
        else:
            self.executor.update_parameters(
                timeout_min=s.minutes, gpus_per_node=gpus, signal_delay_s=s.signal_delay_s, setup=list(s.setup)
            )
        # Ctrl-C in a terminal reaches all processes that it started; the sweep itself asks the trials to end.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _outside():
                job = self.executor.submit(Job(task, max(1.0, s.signal_delay_s - 15.0)))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ConfigError(f"sbatch refused the job ({said[-1].strip()}); see hydra.launcher.* and its `more`.") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.queue.added(job)
        return str(job.job_id)

    def close(self) -> None:
        """Jobs that still run go on, for a later session."""


@contextmanager
def _outside() -> Iterator[None]:
    """Jobs submitted from within a job do not take its sizes for theirs."""
    inside = "SLURM_JOB_ID" in os.environ
    hidden = [k for k in os.environ if inside and k.startswith(("SLURM_", "SUBMITIT_")) and k != "SLURM_CONF"]
    before = {name: os.environ.pop(name) for name in hidden}
    try:
        yield
    finally:
        os.environ.update(before)
