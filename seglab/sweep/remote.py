"""A trial on another machine: its runner starts it there, hands on what the sweep asks, and leaves word of its end.

The sweep and the runner talk through small files in the trial's folder, on a disk that all machines share under one path.
A network disk may show them to the other side late, by its caches' half a minute; nothing but patience depends on that.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seglab.processes import SAVING, asked_threads, clean
from seglab.results import replacing
from seglab.sweep.backend import LOG, Order
from seglab.sweep.failure import killed_for_memory
from seglab.sweep.local import Process

ASKED, PLACE, EXIT, ALIVE = ".end", ".place", ".exit", ".alive"
LOOK = 0.5  # seconds between two looks at the files
LATEST = SAVING + 30  # seconds within which a trial whose runner was killed has saved its state, and left


class Runner:
    """Runs one trial. All arguments are plain data; `again` are the words that let it go on from its last.ckpt."""

    def __init__(
        self, command: Sequence[str], folder: str, cwd: str, environment: dict[str, str], again: Sequence[str]
    ) -> None:
        self.folder, self.environment, self.again = Path(folder), environment, list(again)
        self.order = Order(list(command), self.folder, Path(cwd))
        self.process: Process | None = None
        self.asked: set[str] = set()

    def run(self) -> int:
        """Start the trial and wait for its end; returns its exit code, to be left in the folder by `leave`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        alive = _hold(self.folder / ALIVE)
        if (self.folder / PLACE).exists():  # the scheduler starts the same job once more: on another node, or after its time
            self.order = Order([*self.order.command, *self.again], self.folder, self.order.cwd)
        place = {"node": socket.gethostname(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
        _write(self.folder / PLACE, place)
        killed = killed_for_memory()
        try:
            with _undisturbed():
                self.process = Process(self.order, self.environment, () if alive is None else (alive,))
            code = self._outcome()
        finally:
            if alive is not None:
                os.close(alive)
        if code in (-9, 137) and killed_for_memory() > killed:
            say(self.folder, f"out of memory: the system of {place['node']} killed the trial")
        return code

    def _outcome(self) -> int:
        try:
            return self.wait()
        except KeyboardInterrupt:  # ray.cancel of a task that has just begun
            self.ask("end")
            return self.wait()

    def wait(self, patience: float = float("inf")) -> int:
        """The exit code, once it has ended. It is killed when `patience` seconds are over."""
        deadline = time.monotonic() + patience
        while (code := self.code()) is None:
            try:
                request = (self.folder / ASKED).read_text().strip()
            except OSError:
                request = ""
            if request or time.monotonic() > deadline:
                self.ask("kill" if time.monotonic() > deadline else request)
            time.sleep(LOOK if self.asked else LOOK / 5)
        return code

    def ask(self, request: str) -> None:
        """Do what the sweep or the scheduler asks, once: `kill` ends it at once, anything else lets it save and leave."""
        if self.process is not None and self.code() is None and request not in self.asked:
            self.asked.add(request)
            if request == "kill":
                os.killpg(self.process.process.pid, signal.SIGKILL)
            elif len(self.asked) == 1:
                os.kill(self.process.process.pid, signal.SIGTERM)

    def code(self) -> int | None:
        """The exit code of a trial that has ended.

        It is only looked at: a signal's handler may ask while Popen.poll, which has a lock, is at work below it.
        """
        assert self.process is not None
        if not hasattr(os, "waitid"):
            return self.process.poll()
        found = os.waitid(os.P_PID, self.process.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def leave(self, code: int) -> None:
        """Tell the sweep, of this or of a later session."""
        _write(self.folder / EXIT, {"code": code})


def run(task: dict[str, Any]) -> int:
    """Run a trial and leave word of its end, as one function; its exit code."""
    runner = Runner(**task)
    code = runner.run()
    runner.leave(code)
    return code


def prepare(folder: Path) -> None:
    """Before a trial is handed over: what an earlier attempt left is void, a request to end among it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ASKED, PLACE, EXIT):
        (folder / name).unlink(missing_ok=True)


def request(folder: Path, what: str) -> None:
    """Ask the trial's runner, wherever it is, for its `end` (it saves first) or to `kill` it."""
    with suppress(OSError), replacing(folder / ASKED) as file:
        file.write(what)


def requested(folder: Path) -> bool:
    """Whether the end of the trial was asked for."""
    return (folder / ASKED).exists()


def left(folder: Path) -> int | None:
    """The exit code that the trial's runner left; None while it has not."""
    code = _read(folder / EXIT).get("code")
    return code if isinstance(code, int) else None


def place(folder: Path) -> dict[str, str] | None:
    """The `node` and `devices` of a trial that was started; None while it waits for its turn."""
    return _read(folder / PLACE) or None


def busy(folder: Path) -> bool:
    """Whether the trial, or its runner, is at work; a trial that lost its runner or its sweep saves its state first."""
    path = folder / ALIVE
    if not path.exists():
        return False
    with suppress(ImportError, OSError):
        import fcntl

        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def say(folder: Path, sentence: str) -> None:
    """Add a line to the trial's log, where the reason of its failure is looked for."""
    with suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(sentence + "\n")


def task(order: Order, environment: dict[str, str]) -> dict[str, Any]:
    """What Runner needs for an order: the settings of seglab in this process's environment come along."""
    own = {k: v for k, v in clean(os.environ).items() if k.startswith("SEGLAB_") or k == "HYDRA_FULL_ERROR"}
    told = {**own, **order.environment, **environment}
    return {"command": list(order.command), "folder": str(order.folder), "cwd": str(order.cwd), "environment": told,
            "again": ["resume=auto"]}  # fmt: skip


def threads(cores: int, processes: int, kept: int | None) -> tuple[int, dict[str, str]]:
    """(threads of maths, the environment) of a trial on `cores`; those of an earlier session come first."""
    count = kept or asked_threads() or max(1, cores // max(1, processes))
    return count, {"SEGLAB_CORES": str(cores), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(count))}


def _hold(path: Path) -> int | None:
    """A lock that this process and the trial hold until both have ended; waits for the trial of a killed runner."""
    try:
        import fcntl
    except ImportError:
        return None
    file, deadline = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), time.monotonic() + LATEST
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK)
        except OSError:  # a disk without locks
            return file


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Processes started within it never get SIGUSR2: it is for the runner, but some schedulers send it to all of a job."""
    if not hasattr(signal, "SIGUSR2"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write(path: Path, data: dict[str, Any]) -> None:
    with replacing(path) as file:
        json.dump(data, file)


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        data = json.loads(path.read_text())
        return data if isinstance(data, dict) else {}
    return {}
