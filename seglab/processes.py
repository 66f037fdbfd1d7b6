"""What the processes that seglab starts share: their part of the cores, a clean environment, an end with who started them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
SAVING = 300.0  # seconds that a run has to save its state, from the signal that asks for it to its end by force
CORES = "SEGLAB_CORES"  # how many of this machine's cores a trial of a sweep may use
TRIAL = "SEGLAB_TRIAL"  # JSON: of which sweep a process is a trial, its number, its axes (key -> value)
TRACES = "SEGLAB_TRACES"  # what HYDRA_FULL_ERROR was before a door set it for itself; 1 = the user wants tracebacks
LIFELINE = "SEGLAB_LIFELINE"  # set where stdin is a pipe that closes when the process's supervisor ends, however it ends

# What another launcher, or an earlier Lightning, told this process and would mislead the processes it starts.
_MISLEADING = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP", "TORCHELASTIC_",
               "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "GROUP_", "ROLE_", "LOCAL_WORLD_SIZE")  # fmt: skip
_RANK = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SEGLAB_RANK")


def cores() -> int:
    """How many cores this process may use."""
    if given := os.environ.get(CORES):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def asked_threads() -> int | None:
    """The threads of maths on CPUs that the user set; None where that is left to us."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) > 0 else None


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the traces of process groups, or of a door, that this process belongs to or once started."""
    kept = {k: v for k, v in environ.items() if not k.startswith(_MISLEADING) and k not in (*_RANK, TRACES)}
    return {**kept, "HYDRA_FULL_ERROR": environ[TRACES]} if TRACES in environ else kept


@contextmanager
def noted(signals: list[int]) -> Iterator[None]:
    """While it lasts, SIGNALS are only added to the list (in the main thread; elsewhere nobody could listen)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda n, _: signals.append(n)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_supervisor(act: Callable[[], None]) -> None:
    """Call `act`, in a thread, when the supervisor's end of stdin closes: even by kill -9 it does. Stdin is empty then."""
    pipe = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        os.read(pipe, 1)
        act()

    threading.Thread(target=watch, name="supervisor", daemon=True).start()
