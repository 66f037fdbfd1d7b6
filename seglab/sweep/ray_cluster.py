"""Trials as tasks of Ray: on this machine, or on the many of a cluster. Ray hands out the GPUs.

Tasks end with the process that asked for them: a trial then has lost its runner, saves its state, and leaves.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab.errors import ConfigError
from seglab.sweep import remote
from seglab.sweep.backend import Order
from seglab.sweep.trial import Trial

KILLING = 3.0  # seconds that a runner has to kill its trial
GB = 1024**3
# No statistics are sent. The second keeps a Ray of this machine alone off all interfaces but the loopback, on any system.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True)
class Settings:
    """What a trial's task is asked for: the keys of conf/hydra/launcher/ray.yaml."""

    address: str | None = None
    gpus: str | float = "auto"
    cpus: str | float = "auto"
    memory_gb: float | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    parallel: int = 64

    def check(self) -> None:
        """ConfigError for a value that cannot be."""
        if self.gpus != "auto" and (not _number(self.gpus) or self.gpus < 0 or (self.gpus > 1 and self.gpus % 1)):  # type: ignore[operator]
            raise ConfigError(f"hydra.launcher.gpus={self.gpus}; it must be auto, a number of GPUs, or a share below 1.")
        if self.cpus != "auto" and not (_number(self.cpus) and self.cpus >= 1 and self.cpus % 1 == 0):  # type: ignore[operator]
            raise ConfigError(f"hydra.launcher.cpus={self.cpus}; it must be auto, or a whole number of at least 1.")
        if self.memory_gb is not None and not (_number(self.memory_gb) and self.memory_gb > 0):
            raise ConfigError(f"hydra.launcher.memory_gb={self.memory_gb}; it must be above 0, or null.")
        if not isinstance(self.parallel, int) or isinstance(self.parallel, bool) or self.parallel < 1:
            raise ConfigError(f"hydra.launcher.parallel={self.parallel}; it must be a whole number of at least 1.")
        if unknown := sorted(set(self.machine) - {"num_cpus", "num_gpus"}):
            raise ConfigError(f"hydra.launcher.machine.{unknown[0]} is unknown; it takes num_cpus and num_gpus.")
        for key, value in self.machine.items():
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < (key == "num_cpus")):
                raise ConfigError(f"hydra.launcher.machine.{key}={value}; it must be a whole number, or null: as found.")
        if self.address is not None and any(value is not None for value in self.machine.values()):
            raise ConfigError("hydra.launcher.machine is for a Ray that is started here; leave it out, or address.")


class Handle:
    """A trial's task."""

    def __init__(self, trial: Trial, folder: Path, ref: Any, elsewhere: bool) -> None:
        self.trial, self.folder, self.ref, self.elsewhere = trial, folder, ref, elsewhere
        self.code: int | None = None
        self.killed = False
        trial.place = ""

    def poll(self) -> int | None:
        """The trial's exit code once its task has ended."""
        import ray

        if self.code is None:
            if not self.trial.place and (place := remote.place(self.folder)) is not None:
                devices = place["devices"] or "cpu"
                self.trial.place = f"{place['node']}:{devices}" if self.elsewhere else devices
            if ray.wait([self.ref], timeout=0)[0]:
                self.code = self._outcome()
        return self.code

    def end(self) -> None:
        """Have it save and leave; one that waits for its turn is withdrawn."""
        import ray

        remote.request(self.folder, "end")
        if remote.place(self.folder) is None:
            ray.cancel(self.ref)

    def kill(self) -> None:
        """End it at once."""
        import ray

        if self.killed:
            return
        self.killed = True
        remote.request(self.folder, "kill")
        if remote.place(self.folder) is None or not ray.wait([self.ref], timeout=KILLING)[0]:
            ray.cancel(self.ref, force=True)

    def _outcome(self) -> int:
        import ray
        from ray.exceptions import OutOfMemoryError, TaskCancelledError

        try:
            return int(ray.get(self.ref))
        except TaskCancelledError:
            return -signal.SIGKILL
        except OutOfMemoryError as error:
            remote.say(self.folder, f"out of memory: Ray ended the trial's task. {_line(error)}")
            return 137
        except Exception as error:  # a worker or a node died, or Ray did
            if (code := remote.left(self.folder)) is not None:
                return code
            remote.say(self.folder, f"RayError: its task is gone, without a word of its trial: {_line(error)}")
            return 1


class Ray:
    """The machines of a Ray cluster; one is started on this machine where there is no `address`."""

    def __init__(self, settings: Settings) -> None:
        own = settings.address is None
        for name, value in (QUIET | ALONE if own else QUIET).items():
            os.environ.setdefault(name, value)
        import ray

        self.settings, self.running = settings, list[Handle]()
        given = {key: value for key, value in settings.machine.items() if value is not None} if own else {}
        with _signals_kept():
            try:
                # "local": RAY_ADDRESS in the environment, and another Ray of this machine, are left alone.
                ray.init(
                    address=settings.address or "local", include_dashboard=False if own else None, log_to_driver=False,
                    logging_level=logging.ERROR, **given,
                )  # fmt: skip
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, ImportError) as error:
                remedy = "lower hydra.launcher.machine" if own else f"see that hydra.launcher.address={settings.address} is one"
                raise ConfigError(f"Ray did not start ({_line(error)}); {remedy}.") from error
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.machines = [(float(r.get("CPU", 0)), float(r.get("GPU", 0))) for r in found]

    def describe(self) -> str:
        """The machines in words."""
        where = "this machine" if self.settings.address is None else f"{len(self.machines)} machines"
        count = self.slots()
        return f"Ray on {where}, {self._has()}, at most {count} trial{'s' if count != 1 else ''} at once"

    def slots(self) -> int:
        """How many trials on one device each run at once; on a cluster, which may grow, how many are handed over."""
        if self.settings.address is not None:
            return self.settings.parallel
        return max(1, min(self.settings.parallel, self._fitting(*self._wanted(1))))

    def start(self, trial: Trial, order: Order) -> Handle | None:
        """Hand the trial over to Ray; None while as many as `slots` are there."""
        import ray

        self.running = [handle for handle in self.running if handle.code is None]
        if len(self.running) >= self.slots() or remote.busy(order.folder):
            return None
        cpus, gpus = self._wanted(trial.devices)
        if self.settings.address is None and not self._fitting(cpus, gpus):
            raise ConfigError(
                f"A trial asks for {cpus:g} CPUs and {gpus:g} GPUs, and Ray has {self._has()} on this machine; "
                f"ask for less with hydra.launcher.cpus, hydra.launcher.gpus or trainer.devices."
            )
        trial.threads, told = remote.threads(int(cpus), max(1, trial.devices), trial.threads)
        remote.prepare(order.folder)
        memory = {"memory": int(self.settings.memory_gb * GB)} if self.settings.memory_gb else {}
        task = ray.remote(remote.run).options(num_cpus=cpus, num_gpus=gpus, max_retries=0, **memory)
        ref = task.remote(remote.task(order, told))
        self.running.append(Handle(trial, order.folder, ref, self.settings.address is not None))
        return self.running[-1]

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here ends."""
        import ray

        with _signals_kept():
            ray.shutdown()

    def _wanted(self, devices: int) -> tuple[float, float]:
        """(CPUs, GPUs) of a trial that trains on `devices`; those that train on all that they see get one."""
        count = max(1, devices)
        there = any(gpu for _, gpu in self.machines)
        gpus = float(self.settings.gpus) if self.settings.gpus != "auto" else float(count if there else 0)
        if self.settings.cpus != "auto":
            return float(self.settings.cpus), gpus
        shares = [cpu * gpus / gpu for cpu, gpu in self.machines if gpu] if gpus else [cpu for cpu, _ in self.machines if cpu]
        return float(max(1, int(min(shares, default=1)))), gpus

    def _fitting(self, cpus: float, gpus: float) -> int:
        """How many trials of that size fit into the machines."""
        return sum(int(min(cpu / cpus, gpu / gpus if gpus else float("inf"))) for cpu, gpu in self.machines)

    def _has(self) -> str:
        cpus, gpus = (sum(column) for column in zip(*self.machines, strict=True))
        return f"{cpus:g} CPUs and {gpus:g} GPUs"


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(ValueError, TypeError):  # not the main thread
                signal.signal(number, handler)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(error: BaseException) -> str:
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())[:300].rstrip(".")
