"""Trials as processes of this machine, each on devices of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

from seglab.processes import LIFELINE, asked_threads, clean
from seglab.sweep.backend import LOG, Order
from seglab.sweep.devices import Devices
from seglab.sweep.trial import Trial


class Process:
    """A trial's process, in a session of its own. It ends by itself, and saves first, when this process ends."""

    def __init__(self, order: Order, environment: dict[str, str], inherited: tuple[int, ...] = ()) -> None:
        order.folder.mkdir(parents=True, exist_ok=True)
        env = {**clean(os.environ), **order.environment, **environment, LIFELINE: "1"}
        with (order.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                order.command, cwd=order.cwd, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True, pass_fds=inherited,
            )  # fmt: skip

    def poll(self) -> int | None:
        """The exit code once it has ended."""
        code = self.process.poll()
        if code is not None and self.process.stdin:
            self.process.stdin.close()
        return code

    def end(self) -> None:
        """SIGTERM, upon which a run saves its state."""
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL, to the workers of its loaders as well."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.wait()


class Leased:
    """A process that gives its devices back when it has ended."""

    def __init__(self, process: Process, give_back: Callable[[], None]) -> None:
        self.process, self.give_back = process, give_back
        self.code: int | None = None

    def poll(self) -> int | None:
        """The exit code once it has ended."""
        if self.code is None and (code := self.process.poll()) is not None:
            self.code = code
            self.give_back()
        return self.code

    def end(self) -> None:
        """Ask it to save its state and leave."""
        self.process.end()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()


class Local:
    """The devices of this machine."""

    def __init__(self, devices: Devices, known: bool = True, inherited: Callable[[], tuple[int, ...]] = tuple) -> None:
        self.devices, self.known, self.inherited = devices, known, inherited

    def describe(self) -> str:
        """The devices in words."""
        if self.devices.on_cpu:
            return "the CPUs" + (f", {self.slots()} trials at once" if self.slots() > 1 else ", one after the other")
        names = f"device{'s' if len(self.devices.names) > 1 else ''} {', '.join(self.devices.names)}"
        names += "" if self.known else " (no GPU was found here: names only)"
        return names + (f", {self.devices.share} trials on each" if self.devices.share > 1 else "")

    def slots(self) -> int:
        """How many trials run at once."""
        return self.devices.slots

    def start(self, trial: Trial, order: Order) -> Leased | None:
        """Start the trial on free devices; None while too few are free."""
        lease = self.devices.lease(trial.devices)
        if lease is None:
            return None
        try:
            process = Process(order, lease.environment(os.environ, trial.threads), self.inherited())
        except BaseException:
            self.devices.give_back(lease)
            raise
        trial.place, trial.threads = str(lease), trial.threads or asked_threads() or lease.threads
        return Leased(process, lambda: self.devices.give_back(lease))

    def close(self) -> None:
        """Nothing is left to do."""
