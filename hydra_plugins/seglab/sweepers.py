"""hydra/sweeper=optuna: the overrides of `-m` become the axes of a study, which a launcher of seglab's runs in its pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.seglab.jobs import contents
from hydra_plugins.seglab.launchers import TrialLauncher
from seglab.build import check_type
from seglab.config import COMPOSING, explain
from seglab.config.identity import beside
from seglab.config.refusing import key_of
from seglab.errors import ConfigError, SeglabError, TrainingError, nearest, shown, visible
from seglab.results import higher_is_better
from seglab.sweep.folder import Sweep
from seglab.sweep.plan import Plan, quiet
from seglab.sweep.space import Axis, Choice, Number
from seglab.sweep.trial import State, Trial

_TYPES = {
    "trials": int, "parallel": int | None, "sampler": str, "sampler_settings": dict[str, Any], "pruner": str,
    "pruner_settings": dict[str, Any], "objectives": dict[str, str] | None, "seed": int | None, "params": dict[str, Any],
}  # fmt: skip


class OptunaSweeper(Sweeper):
    """Its settings are explained in conf/hydra/sweeper/optuna.yaml."""

    launcher: TrialLauncher
    config: DictConfig
    context: HydraContext

    def __init__(self, **settings: Any) -> None:
        self.settings = contents(settings)

    def check(self) -> None:
        """ConfigError for an unknown key or a value of the wrong type ."""
        for key, value in self.settings.items():
            if key not in _TYPES:
                raise ConfigError(f"There is no key '{key}' in 'hydra.sweeper'.{nearest(key, _TYPES)}")
            if key == "objectives" and value is not None and not isinstance(value, dict):
                raise ConfigError(f"hydra.sweeper.objectives is {value}; write {{val/iou: max}}, or more of them.")
            check_type(value, _TYPES[key], f"hydra.sweeper.{key}")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before anything is written."""
        self.check()
        quiet()
        self.context, self.config = hydra_context, config
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, TrialLauncher):
            raise ConfigError(
                "hydra/sweeper=optuna needs a launcher that watches its trials; take hydra/launcher=pool, slurm or ray."
            )
        self.launcher = launcher

    def sweep(self, arguments: list[str]) -> Any:
        """Search; TrainingError if no trial was complete at the end."""
        from seglab.sweep.study import Study

        given = [*(f"{key}={value}" for key, value in self.settings["params"].items()), *arguments]
        parsed = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(given)
        axes, fixed = split(parsed)
        self.plan(axes, fixed, 1).try_out()  # what is wrong with it is said before anything is written
        if not self.launcher.resume:
            self.check_choices(self.plan(axes, fixed, 1))
        with self.launcher.opened() as sweep:
            backend = self.launcher.backend(sweep)
            plan = self.plan(axes, fixed, backend.slots())
            sweep.path.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, sweep.path / "multirun.yaml")
            study = Study(plan, sweep, lambda number, overrides, values: self.trial(sweep, number, overrides, values))
            sweep.total = max(study.limit, len(study.known))
            sweep.write()
            try:
                self.launcher.run(sweep, study, backend)
            finally:
                conclude(study, sweep)
        if study.wrong:
            raise ConfigError(study.wrong)
        if not study.complete():
            raise TrainingError(f"None of {len(sweep.trials)} trials came to a score; see {shown(sweep.path / 'summary.csv')}.")
        return None

    def plan(self, axes: Sequence[Axis], fixed: Sequence[str], slots: int) -> Plan:
        """What is asked of the study."""
        asked = {key: value for key, value in self.settings.items() if key != "params"}
        asked["parallel"] = asked["parallel"] if asked["parallel"] is not None else slots
        higher = higher_is_better(self.config.monitor, self.config.mode)
        epochs = self.config.trainer.max_epochs
        beside = [o for o in fixed if _beside(key_of(o))]
        kept = [o for o in fixed if o not in beside]
        asked["seed"] = asked["seed"] or 0
        return Plan(axes, kept, beside=beside, higher=higher, epochs=epochs if isinstance(epochs, int) else None, **asked)

    def trial(self, sweep: Sweep, number: int, overrides: list[str], values: dict[str, str]) -> Trial:
        """The launcher's trial; ConfigError if it cannot be composed."""
        try:
            return self.launcher.trial(sweep, number, overrides, values)
        except SeglabError:
            raise
        except COMPOSING as error:
            raise ConfigError(explain(error, overrides)) from error

    def check_choices(self, plan: Plan) -> None:
        """ConfigError for a choice that cannot be composed, before anything is trained."""
        first = {axis.key: axis.text(axis.values()[0] if isinstance(axis, Choice) else axis.low) for axis in plan.axes}
        tried = [{**first, axis.key: text} for axis in plan.axes if isinstance(axis, Choice) for text in axis.texts]
        for point in tried or [first]:
            overrides = [*plan.overrides(), *(f"{key}={text}" for key, text in point.items())]
            try:
                self.launcher.composed(0, overrides)
            except COMPOSING as error:
                raise ConfigError(explain(error, overrides)) from error


def split(parsed: Sequence[Override]) -> tuple[list[Axis], list[str]]:
    """(axes, the other overrides), a later one of a key in the place of an earlier one. ConfigError for a bad axis."""
    last: dict[str, Override] = {}
    for override in parsed:
        key = override.get_key_element().lstrip("+~")
        last.pop(key, None)
        last[key] = override
    swept = [o for o in last.values() if o.is_sweep_override()]
    return [axis(o) for o in swept], [str(o.input_line) for o in last.values() if not o.is_sweep_override()]


def axis(override: Override) -> Axis:
    """The axis of a sweep in Hydra's override syntax."""
    key, value = override.get_key_element(), override.value()
    name = key.lstrip("+")
    for tag in getattr(value, "tags", ()):
        if tag != "log" or not isinstance(value, IntervalSweep | RangeSweep):
            hint = "log is for intervals and ranges" if tag == "log" else "the only one is log"
            raise ConfigError(f"{name}: the tag '{tag}' says nothing here; {hint}.")
    if isinstance(value, IntervalSweep):
        low, high = value.start or 0, value.end or 0
        whole = isinstance(low, int) and isinstance(high, int)  # int(interval(...)); Hydra makes floats of all others
        return Number(key, low, high, "log" in value.tags, 1 if whole and "log" not in value.tags else None, whole)
    if isinstance(value, RangeSweep):
        found = sorted(value.range())
        if len(found) < 2:
            what = f"holds only {found[0]}" if found else "is empty"
            raise ConfigError(f"{name}: the range {what}; write range(start, stop, step), where stop is not reached.")
        whole, step = isinstance(value.start, int) and isinstance(found[0], int), abs(value.step)
        return Number(key, found[0], found[0] + step * (len(found) - 1), "log" in value.tags, step, whole)
    return Choice(key, tuple(override.sweep_string_iterator()))


def conclude(study: Any, sweep: Sweep) -> None:
    """Draw the study's pictures and say what was found."""
    from rich.console import Console  # Hydra imports this file whatever the command
    from rich.text import Text

    from seglab.sweep.plots import plots
    from seglab.sweep.study import FILE as STUDY

    drawn: list[str] = []
    with suppress(Exception):  # after a signal, or on a full disk: the pictures are the least of it
        drawn = plots(study)
    out = Console(highlight=False, soft_wrap=True)
    if len(study.plan.directions) > 1:  # of one objective the sweep's own table has said it
        for record in study.best():
            trial, values = study.trial(record), _named(study.plan.objectives, record.values)
            settings = trial.name() if trial else " ".join(f"{key}={value}" for key, value in record.params.items())
            out.print(Text.assemble(("front  ", "green"), (visible(values), "bold"), "  ", visible(settings)))
    words = [f"{sweep.count(state)} {state}" for state in get_args(State) if sweep.count(state)]
    files = ", ".join(shown(sweep.path / name) for name in (STUDY, *drawn))
    count = f"{len(study.known)} trial{'s' if len(study.known) != 1 else ''}"
    out.print(f"{count}: {', '.join(words) or 'none has ended'}; see {files}", markup=False)


def _named(names: Mapping[str, str], values: Sequence[float]) -> str:
    texts = (f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}" for value in values)
    return "  ".join(f"{name} {text}" for name, text in zip(names, texts, strict=True))


def _beside(key: str) -> bool:
    """Whether the setting only concerns how a run is watched, so that a study may go on with another one."""
    return key == "hparams" or beside(key)
