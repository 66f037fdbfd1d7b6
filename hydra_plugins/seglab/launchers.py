"""hydra/launcher=pool, slurm, ray: jobs of `-m` become trials of a sweep, each a fresh process of the same command."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.seglab.jobs import Listed, class_of, command, contents, devices_of, returned, typed
from seglab.build import check_type
from seglab.config import plain
from seglab.config.commandline import places, quoted
from seglab.config.identity import identity
from seglab.errors import ConfigError, TrainingError, nearest, shown
from seglab.processes import TRIAL
from seglab.results import FILE as RUN
from seglab.results import higher_is_better
from seglab.sweep.backend import Backend, Order
from seglab.sweep.devices import CPU, Devices, chosen
from seglab.sweep.folder import FILE, Sweep
from seglab.sweep.local import Local
from seglab.sweep.pool import Pool, Rules, Source
from seglab.sweep.trial import DONE, Trial, within

_FOLDER = re.compile(r"[~+]*hydra\.(sweep\.dir|launcher\.resume|mode)\b")
COMMON = {"retries": int, "halve_batch": bool, "trial_timeout": float | None, "resume": bool}
_OURS = re.compile(r"[~+]*hydra[./](run|sweep|launcher|sweeper|mode)\b|[~+]*hydra\.job\.(num|id)\b")


class TrialLauncher(Launcher):
    """What all launchers of seglab share; they differ in their `backend`."""

    name = ""

    def __init__(
        self,
        retries: int = 0,
        halve_batch: bool = False,
        trial_timeout: float | None = None,
        resume: bool = False,
        **unknown: Any,
    ) -> None:
        for key in unknown:
            own = [name for name, p in signature(type(self)).parameters.items() if p.kind is not p.VAR_KEYWORD]
            raise ConfigError(f"There is no key '{key}' in 'hydra.launcher'.{nearest(key, {*own, *COMMON})}")
        given = {"retries": retries, "halve_batch": halve_batch, "trial_timeout": trial_timeout, "resume": resume}
        for key, kind in COMMON.items():
            check_type(given[key], kind, f"hydra.launcher.{key}")
            if not isinstance(given[key], bool) and (given[key] or 0) < 0:
                raise ConfigError(f"hydra.launcher.{key} is {given[key]}; it must be 0 or more.")
        self.rules, self.resume = Rules(retries, halve_batch, trial_timeout or None), resume
        self.sweep: Sweep | None = None
        self.met: set[int] = set()  # trials that are a job of this session
        self.raises = True  # a sweeper of seglab's own looks at the trials itself

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before anything is written."""
        self.context, self.config = hydra_context, config
        self.path = Path(str(config.hydra.sweep.dir)).absolute()
        if not self.resume and (self.path / FILE).exists():
            raise ConfigError(
                f"{self.path} holds a sweep already; choose another folder with hydra.sweep.dir=DIR, or go on with "
                f"sweep.resume=DIR."
            )
        if (self.path / RUN).exists():
            raise ConfigError(f"{self.path} holds a run; choose another folder with hydra.sweep.dir=DIR.")
        if config.hydra.sweeper.get("max_batch_size") is not None:
            raise ConfigError(
                "hydra.sweeper.max_batch_size: the launcher starts as many trials as there is room for; leave it out."
            )
        if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
            raise ConfigError(
                "Each of these processes would run the whole sweep; start -m by python alone, its trials start theirs."
            )
        self.raises = issubclass(class_of(config.hydra.sweeper), BasicSweeper)

    def backend(self, sweep: Sweep) -> Backend:
        """Where the trials run."""
        raise NotImplementedError

    @contextmanager
    def opened(self) -> Iterator[Sweep]:
        """The sweep's record: a new one, or that of the folder which is gone on with."""
        task, hydras = typed(self.config)
        own = [*places(sys.argv[1:]), *(o for o in hydras if not _FOLDER.match(o))]
        sweep = Sweep(self.path, task, own, self.name, study=not self.raises)
        if self.resume:
            sweep.claim(lambda: print("waiting for trials of the sweep's last session to save their state"))
        else:
            sweep.claim(patience=1.0)  # of two sweeps started in the same second one gets the folder
        try:
            if (self.path / FILE).exists():
                sweep.go_on(Sweep.read(self.path))
            self.sweep = sweep
            yield sweep
        finally:
            sweep.release()

    def run(self, sweep: Sweep, source: Source, backend: Backend | None = None) -> None:
        """Run the trials of a source, and tell at the end what became of them; TrainingError if some failed."""
        from seglab.sweep.ending import report  # Hydra imports this file whatever the command, and rich takes its time
        from seglab.sweep.table import Table

        backend = backend or self.backend(sweep)
        table = Table(sweep, backend)
        pool = Pool(sweep, backend, source, self.order, table, self.rules, self.halved)
        try:
            with table.shown():
                pool.run()
        finally:
            report(sweep, table.out)
        if self.raises and (failed := sweep.count("failed")):
            raise TrainingError(f"{failed} of {len(sweep.trials)} trials failed; see {shown(sweep.path / 'summary.csv')}.")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Hydra's way in: run a list of jobs."""
        with self.opened() as sweep:
            jobs = [self.trial(sweep, initial_job_idx + n, list(job)) for n, job in enumerate(job_overrides)]
            sweep.total = max(sweep.total or 0, len(sweep.trials))
            sweep.write()
            # A resumed sweep goes on with all that it has left, whatever more this command asks for.
            left = sweep.trials if self.resume and initial_job_idx == 0 else jobs
            self.run(sweep, Listed([trial for trial in left if trial.state not in DONE]))
        return [returned(trial) for trial in jobs]

    def trial(self, sweep: Sweep, number: int, overrides: list[str], axes: dict[str, str] | None = None) -> Trial:
        """The trial of a job: that of an earlier session, if its configuration is the same, else a new one in the record.

        Raises what Hydra raises if the job cannot be composed.
        """
        config = self.composed(number, overrides)
        axes = self._axes(overrides, sweep.axes) if axes is None else axes
        HydraConfig.instance().set_config(config)  # for ${hydra:job.num} and its like
        settings = plain(OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"]))
        key = identity(settings, axes)
        # Jobs may be the same, those of seed=null,null for example: each has a trial of its own.
        same = [t for t in sweep.trials if self.resume and t.identity == key and t.number not in self.met]
        if same:
            old = next((t for t in same if t.overrides == overrides), same[0])
            old.overrides, old.axes = overrides, {**old.axes, **axes}
            self.met.add(old.number)
            return old
        taken = {t.number for t in sweep.trials}
        if number in taken:
            number = max(taken) + 1
            config = self.composed(number, overrides)
        made = Trial(number, overrides, axes, str(config.hydra.sweep.subdir), key, devices_of(settings["trainer"]))
        if (other := next((t for t in sweep.trials if t.folder == made.folder), None)) or not within(made.folder):
            why = f"is that of trial {other.number} as well" if other else f"is not below {self.path}"
            raise ConfigError(f"The folder {made.folder} of trial {number} {why}; give another hydra.sweep.subdir.")
        made.epochs, made.monitor = settings["trainer"].get("max_epochs"), settings["monitor"]
        made.higher = higher_is_better(made.monitor, settings["mode"])
        sweep.trials.append(made)
        self.met.add(number)
        return made

    def composed(self, number: int, overrides: list[str]) -> DictConfig:
        """The configuration of a job."""
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        return config

    def order(self, trial: Trial, resumed: bool) -> Order:
        """The command of a trial."""
        assert self.sweep is not None
        folder = self.sweep.folder(trial)
        given = [o for o in typed(self.config)[1] if not _OURS.match(o)]
        own = [f"hydra.run.dir={quoted(str(folder))}", f"hydra.job.num={trial.number}", f"hydra.job.id={trial.number}"]
        own += ["hydra.mode=RUN"]  # a configuration may say MULTIRUN
        again = ["resume=auto"] if resumed else []
        told = {"sweep": f"{self.path.parent.name}/{self.path.name}", "number": trial.number, "axes": trial.axes}
        return Order(
            [*command(), *given, *trial.overrides, *trial.changed, *own, *again], folder, Path.cwd(),
            {TRIAL: json.dumps(told)},
        )  # fmt: skip

    def halved(self, trial: Trial) -> list[str] | None:
        """The overrides for half the trial's batch and twice its accumulation; None where the batch is odd."""
        config = self.composed(trial.number, [*trial.overrides, *trial.changed])
        batch, steps = config.data.batch_size, config.trainer.accumulate_grad_batches or 1
        if not isinstance(batch, int) or batch % 2 or not isinstance(steps, int):
            return None
        return [f"data.batch_size={batch // 2}", f"trainer.accumulate_grad_batches={2 * steps}"]

    def _axes(self, overrides: list[str], known: Sequence[str]) -> dict[str, str]:
        """What the trial differs in: the axes of this command, and the `known` ones of the sweep's earlier commands."""
        params = self.config.hydra.sweeper.get("params") or {}
        words = [*(f"{k}={v}" for k, v in params.items()), *typed(self.config)[0]]
        parsed = OverridesParser.create().parse_overrides(words)
        swept = [o.get_key_element().lstrip("+") for o in parsed if o.is_sweep_override()]
        values = {key.lstrip("+"): value.strip("'\"") for key, _, value in (o.partition("=") for o in overrides)}
        return {key: values[key] for key in dict.fromkeys([*swept, *known]) if key in values}


class PoolLauncher(TrialLauncher):
    """Trials on the devices of this machine."""

    name = "pool"

    def __init__(self, devices: Any = "auto", per_trial: Any = "auto", **common: Any) -> None:
        super().__init__(**common)
        asked = contents({"devices": devices})["devices"]
        names, known = chosen(asked, os.environ)
        self.devices, self.known = Devices(names, per_trial, hidden=asked == CPU), known

    def backend(self, sweep: Sweep) -> Local:
        """This machine."""
        return Local(self.devices, self.known, lambda: sweep.inherited)
