"""Train a network: `python -m seglab.train model=unet loss=dice+ce data=folder data.root=DIR` (`--help` lists the groups)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seglab.config import door, plain
from seglab.errors import ConfigError
from seglab.processes import LIFELINE, SAVING, end_with_supervisor


def run(config: DictConfig) -> float | None:
    """One job: the composed configuration becomes a run folder; returns the best value of `monitor` to a sweeper."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from seglab.engine import fit

    job = HydraConfig.get()
    key = "sweep" if job.mode == RunMode.MULTIRUN else "run"
    if config.get("resume") == "auto" and "${now:" in str(OmegaConf.to_container(getattr(job, key), resolve=False)):
        raise ConfigError(f"resume=auto needs a folder that stays the same from start to start; give hydra.{key}.dir=DIR.")
    choices = {k: str(v) for k, v in job.runtime.choices.items() if not k.startswith("hydra/") and v is not None}
    return fit(plain(config), Path(job.runtime.output_dir), choices, list(job.overrides.task))


def main() -> None:
    """The console script seglab-train."""
    if os.environ.pop(LIFELINE, None):
        end_with_supervisor(_leave)
    door(run, "train")


def _leave() -> None:
    """A trial of a sweep saves its state when the sweep's process is gone, and leaves."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SAVING)
    os._exit(143)


if __name__ == "__main__":
    main()
