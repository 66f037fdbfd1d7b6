"""The processes of a distributed run: how many a job asks for, starting them, and what became of them in one sentence.

The process that a user starts only supervises; all ranks are fresh processes (rank.py). So nothing of one job of a sweep
reaches the next, Hydra has no part in the ranks, notebooks can train on several devices, and no rank outlives the others.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seglab.engine.outcomes import Outcome, cause
from seglab.errors import ConfigError
from seglab.processes import SAVING, clean, cores, noted

Config = dict[str, Any]
OURS = "SEGLAB_RANK"  # "0/2" in the processes that `supervise` starts
DDP = re.compile(r"ddp(_spawn|_fork|_notebook)?(_find_unused_parameters_(true|false))?")
LOOK = 0.05  # seconds between two looks at the ranks
PEERS = 10.0  # seconds the others have after one rank failed; SAVING if it stopped as it was asked to
LAST = 5.0  # seconds between SIGTERM and SIGKILL


def place() -> tuple[int, int] | None:
    """(rank, world) in a process that is one of several: of `supervise`, torchrun, or srun with several tasks; else None."""
    env = os.environ
    if OURS in env:
        rank, world = env[OURS].split("/")
        return int(rank), int(world)
    if "TORCHELASTIC_RUN_ID" in env:
        return int(env["RANK"]), int(env["WORLD_SIZE"])
    # sbatch sets SLURM_NTASKS as well, for the one process that is its script.
    tasks = int(
        env.get("SLURM_STEP_NUM_TASKS") or (env["SLURM_NTASKS"] if {"SLURM_STEP_ID", "SLURM_NTASKS"} <= set(env) else 1)
    )
    return (int(env["SLURM_PROCID"]), tasks) if tasks > 1 else None


def external() -> bool:
    """Whether torchrun, or srun with several tasks, started this process."""
    return OURS not in os.environ and place() is not None


def global_rank() -> int:
    """This process's number in the run; 0 where it is the only one."""
    return (place() or (0, 1))[0]


def processes(config: Config) -> int:
    """How many processes to start here for a plain configuration; 1 if this one is a rank already.

    ConfigError for a strategy, or a number of devices or nodes, that cannot be had.
    """
    settings = config["trainer"]
    asked, nodes = settings.get("strategy") or "auto", settings.get("num_nodes") or 1
    if isinstance(asked, str) and asked != "auto" and not DDP.fullmatch(asked):
        raise ConfigError(f"trainer.strategy={asked}: seglab runs and tests ddp only; use auto or ddp.")
    if OURS in os.environ:
        return 1
    count, cpu = _devices(settings)
    if cpu and settings.get("sync_batchnorm"):
        raise ConfigError(
            "trainer.sync_batchnorm=true needs GPUs, torch's SyncBatchNorm runs on nothing else; set it to false."
        )
    if external():
        world = (place() or (0, 1))[1]
        if count * nodes != world:
            raise ConfigError(
                f"{world} processes were started, but trainer.devices={settings.get('devices')} and "
                f"trainer.num_nodes={nodes} ask for {count * nodes}; make them equal."
            )
        return 1
    if nodes > 1:
        raise ConfigError(f"trainer.num_nodes={nodes}: start one process for each device with torchrun or srun.")
    return count


def strategy(config: Config) -> Any:
    """What to hand to Lightning in this process: `auto` where it is the only one, so that no process group is made for one.

    Over several, the settings of a strategy (a mapping) stay as they are.
    """
    asked = config["trainer"].get("strategy") or "auto"
    if (place() or (0, 1))[1] == 1:
        return "auto"
    if isinstance(asked, Mapping):
        return asked
    return "ddp_find_unused_parameters_true" if asked.endswith("_true") else "ddp"


def _devices(settings: Config) -> tuple[int, bool]:
    """(devices that `trainer` asks for on this machine, whether they are CPUs), by Lightning's own reading of it."""
    import lightning.pytorch as pl
    from lightning.pytorch.accelerators import CPUAccelerator
    from lightning.pytorch.plugins.environments import LightningEnvironment

    asked = {k: settings[k] for k in ("accelerator", "devices") if settings.get(k) is not None}
    quiet: Config = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # this Trainer is not the one that will run
    try:
        with warnings.catch_warnings(action="ignore"):
            trainer = pl.Trainer(**asked, **quiet, plugins=[LightningEnvironment()])
    except Exception as error:
        raise ConfigError(f"'trainer' cannot be set up so: {' '.join(str(error).split())[:300]}") from error
    finally:
        logging.disable(before)
    return trainer.num_devices, isinstance(trainer.accelerator, CPUAccelerator)


def supervise(job: Callable[..., Any], payload: Config, count: int) -> Any:
    """Run `job(**payload)` in `count` processes that form one process group; the value of rank 0.

    `job` is a function at the top of a module; payload and value are plain JSON data. If the payload has a `run`, errors
    name the log files there. SIGINT, SIGTERM and SIGUSR1 are handed on to all ranks. Raises the SeglabError of the rank
    that failed first, TrainingError for one that died or raised anything else.
    """
    from torch.distributed import TCPStore

    # The meeting point of the ranks lives here, on a port the system chose: a free port that was only looked up could be
    # taken by another run during the seconds in which the ranks import.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory(prefix="seglab-") as folder:
        order = {"job": f"{job.__module__}:{job.__name__}", "payload": payload, "path": sys.path}
        Path(folder, "order.json").write_text(json.dumps(order))
        ranks = Ranks(Path(folder), count, payload.get("run"))
        with noted(ranks.signals):
            try:
                ranks.start(store.port)
                ranks.wait()
            finally:
                ranks.kill()
    if ranks.failed:
        raise cause(ranks.failed, ranks.asked)
    return ranks.ended[0].value


class Ranks:
    """The processes of one job. Signals are noted, and handed on by `wait`, to each rank exactly once."""

    def __init__(self, folder: Path, count: int, run: str | None) -> None:
        self.folder, self.count, self.run = folder, count, run
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.ended: dict[int, Outcome] = {}  # in the order in which they ended
        self.signals: list[int] = []
        self.asked: list[int] = []  # those that were handed on

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes that are errors, the earliest first."""
        return sorted((o for o in self.ended.values() if o.error is not None), key=lambda o: o.time)

    def start(self, port: int) -> None:
        """Start all ranks. Their stdin stays open for as long as this process lives, and is how they learn that it died."""
        # By its path, not with -m: that would import all of seglab.engine before the rank could heed a signal.
        command = [sys.executable, "-P", str(Path(__file__).with_name("rank.py")), str(self.folder)]
        for rank in range(self.count):
            env = environment(rank, self.count, port)
            self.running[rank] = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True)

    def wait(self) -> None:
        """Until all have ended; the others of one that failed are ended after a while."""
        deadline, last = float("inf"), [signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)]
        while self.running:
            if self.signals:  # one at a time: two of a kind at once would arrive as one
                self.asked.append(self.signals.pop(0))
                self._send(self.asked[-1])
            for rank, process in list(self.running.items()):
                if process.poll() is not None:
                    self.ended[rank] = Outcome.read(self.folder, rank, self.count, process.returncode, self.run)
                    self.ended[rank].told = len(last) < 2
                    del self.running[rank]
                    self._close(process)
            if self.failed and deadline == float("inf"):
                deadline = time.monotonic() + (SAVING if all(o.stopped for o in self.failed) else PEERS)
            if time.monotonic() > deadline and last:
                self._send(last.pop(0))
                deadline = time.monotonic() + LAST
            time.sleep(LOOK)

    def _send(self, number: int) -> None:
        for process in self.running.values():
            process.send_signal(number)

    def kill(self) -> None:
        """End at once what still runs."""
        for process in self.running.values():
            process.kill()
            process.wait()
            self._close(process)

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        if process.stdin:
            process.stdin.close()


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment of one rank: ours, and where it stands in the process group."""
    return {
        "OMP_NUM_THREADS": str(max(1, cores() // count)),
        **clean(os.environ),
        **{OURS: f"{rank}/{count}", "RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0"},
        **{"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)},
        # torch's word for "the meeting point is there already", which torchrun uses as well
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"},
    }
