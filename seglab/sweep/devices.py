"""The devices of this machine, found without torch, and their leases: no device is two trials', unless they share it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from seglab.errors import ConfigError
from seglab.processes import cores

CPU = "cpu"


@dataclass(frozen=True)
class Lease:
    """The devices of one trial, by the names that CUDA_VISIBLE_DEVICES takes; none where it runs on the CPUs."""

    names: tuple[str, ...]
    threads: int  # of maths on CPUs, for each of its processes
    cores: int
    hidden: bool = False  # the GPUs that there are

    def __str__(self) -> str:
        return ",".join(self.names) or CPU

    def environment(self, environ: Mapping[str, str], threads: int | None = None) -> dict[str, str]:
        """What the trial's process is told; `threads` of an earlier session, and those that the user set, come first."""
        told = {"SEGLAB_CORES": str(self.cores)}
        if "OMP_NUM_THREADS" not in environ:
            told["OMP_NUM_THREADS"] = str(threads or self.threads)
        if self.names:
            told["CUDA_VISIBLE_DEVICES"] = ",".join(self.names)
            if "CUDA_DEVICE_ORDER" not in environ and "CUDA_VISIBLE_DEVICES" not in environ:
                told["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbers of nvidia-smi
        elif self.hidden:
            told["CUDA_VISIBLE_DEVICES"] = ""
        return told


def visible(environ: Mapping[str, str]) -> list[str] | None:
    """The GPUs that this process may use; None where the machine has none, or does not say."""
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
        found = re.findall(r"^GPU (\d+):", done.stdout, re.M) if done.returncode == 0 else []
    except (OSError, subprocess.SubprocessError):
        found = []
    return found or sorted((p.name[6:] for p in Path("/dev").glob("nvidia[0-9]*")), key=int) or None


def chosen(asked: str | int | Sequence[int | str], environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """(the devices that `devices` asks for, whether they are known to be there); none for CPUs. ConfigError for a wrong one.

    Numbers count the visible GPUs, as torch does: under CUDA_VISIBLE_DEVICES=4,5 the device 1 is GPU 5.
    """
    if asked == CPU:
        return [], True
    seen = visible(environ)
    if asked == "auto":
        return seen or [], True
    if isinstance(asked, str) or not isinstance(asked, int | Sequence) or isinstance(asked, bool):
        raise ConfigError(f"hydra.launcher.devices={asked}; it must be auto, cpu, or a list such as [0,1,3].")
    numbers = [n for n in ([asked] if isinstance(asked, int) else asked) if isinstance(n, int) and n >= 0]
    if not numbers or len(set(numbers)) < (1 if isinstance(asked, int) else len(asked)):
        raise ConfigError(f"hydra.launcher.devices={asked}; it must be auto, cpu, or a list such as [0,1,3].")
    if seen is None:
        return [str(n) for n in numbers], False
    if max(numbers) >= len(seen):
        there = f"{len(seen)} GPUs are" if len(seen) != 1 else "1 GPU is"
        raise ConfigError(f"hydra.launcher.devices={asked}, but only {there} visible, counted from 0; name those.")
    return [seen[n] for n in numbers], True


class Devices:
    """Leases of devices: `per_trial` of each ("auto" = as many as the trial trains on), or a share of one below 1."""

    def __init__(self, names: Sequence[str], per_trial: str | int | float = "auto", hidden: bool = False) -> None:
        if per_trial != "auto" and (isinstance(per_trial, bool) or not isinstance(per_trial, int | float) or not per_trial > 0):
            raise ConfigError(
                f"hydra.launcher.per_trial={per_trial}; it must be auto, a number of devices, or a share below 1."
            )
        if isinstance(per_trial, float) and per_trial < 1 / 64:
            raise ConfigError(f"hydra.launcher.per_trial={per_trial}; a share is at least {1 / 64:.3f}, for 64 trials on each.")
        self.names, self.per_trial = tuple(names) or (CPU,), per_trial
        share = Fraction(per_trial).limit_denominator(64) if isinstance(per_trial, float) and per_trial < 1 else Fraction(1)
        if isinstance(per_trial, float) and per_trial > 1 and per_trial % 1:
            raise ConfigError(f"hydra.launcher.per_trial={per_trial}; above 1 it must be a whole number of devices.")
        if not names and not isinstance(per_trial, str) and per_trial > 1:
            raise ConfigError(f"hydra.launcher.per_trial={per_trial}, but the CPUs count as one device; give auto, or a share.")
        self.share = int(1 / share)  # trials at once on each device
        self.on_cpu, self.hidden = not names, hidden
        self.free = {name: self.share for name in self.names}

    @property
    def slots(self) -> int:
        """How many trials on one device each run at once."""
        whole = int(self.per_trial) if self.per_trial != "auto" and self.per_trial >= 1 else 1  # type: ignore[operator]
        return max(1, len(self.names) * self.share // (1 if self.on_cpu else whole))

    def wanted(self, devices: int) -> int:
        """How many devices a trial that trains on `devices` gets. ConfigError if there never will be as many."""
        count = devices if self.per_trial == "auto" or self.share > 1 else int(self.per_trial)
        if self.on_cpu:
            return 1  # its processes share the cores
        if devices < 0:  # all of them
            return len(self.names)
        if self.share > 1 and count > 1:
            raise ConfigError(f"trainer.devices={devices} needs whole devices; leave hydra.launcher.per_trial at auto.")
        if count > len(self.names):
            asked = f"trainer.devices={devices}" if self.per_trial == "auto" else f"hydra.launcher.per_trial={self.per_trial}"
            have = f"{len(self.names)} device{'s' if len(self.names) > 1 else ''} ({', '.join(self.names)})"
            raise ConfigError(f"{asked}, but the sweep has {have}; ask for fewer, or add some to hydra.launcher.devices.")
        return count

    def lease(self, devices: int) -> Lease | None:
        """A lease for a trial that trains on `devices`; None while too few are free."""
        count = self.wanted(devices)
        # The emptiest first, so that shares of a device are not handed out while another is idle.
        names = sorted((n for n in self.names if self.free[n]), key=lambda n: -self.free[n])[:count]
        if len(names) < count:
            return None
        for name in names:
            self.free[name] -= 1
        part = max(1, cores() // self.slots if self.on_cpu else cores() * count // (len(self.names) * self.share))
        threads = max(1, part // (devices if devices > 0 else count))
        return Lease(() if self.on_cpu else tuple(names), threads, part, self.hidden)

    def give_back(self, lease: Lease) -> None:
        """The trial has ended."""
        for name in lease.names or self.names:
            self.free[name] += 1
