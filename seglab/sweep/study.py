"""A study: optuna thinks of the trials, the pool runs them, and what was thought of is on the disk before it is run.

What is suggested is a function of the seed and of what is known of the trials before. A sampler is made anew for each
suggestion, with a seed of its own, so that a resumed study goes on as the unbroken one would have.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from seglab.errors import ConfigError, DataError, nearest
from seglab.results import read_results
from seglab.sweep.folder import Sweep
from seglab.sweep.plan import Plan, quiet
from seglab.sweep.space import grid, size
from seglab.sweep.trial import Trial
from seglab.sweep.watching import Row

FILE = "study.db"
NAME = "seglab"  # of the one study in it
TRIES = 5  # how often the sampler may suggest what there is already, before a point is drawn by lot
FINITE = 10_000  # a space of so many points can be drawn from without putting back

Make = Callable[[int, list[str], dict[str, str]], Trial]  # number, overrides, axes -> the trial, in the sweep's record


class Study:
    """The source of a pool's trials. What an earlier session left half-done is run first; what it finished stays.

    Of optuna's trials those count that became a trial of the sweep. One that suggests the values of another one again, or
    was torn when the process was killed, is set aside: it is told as failed, with `aside` among its attributes.
    """

    def __init__(self, plan: Plan, sweep: Sweep, make: Make) -> None:
        self.plan, self.sweep, self.make = plan, sweep, make
        self.left: deque[Trial] = deque()
        self.active: set[int] = set()
        self.asked: dict[int, Any] = {}  # trial -> optuna's
        self.known: dict[tuple[str, ...], int] = {}  # values of the axes -> trial
        self.reported: dict[int, set[int]] = {}  # trial -> epochs
        self.waiting: dict[int, list[Row]] = {}  # trial -> rows that came before its monitor was known
        self.tries = 0
        self.wrong: str | None = None  # why nothing more is asked
        self.points = size(plan.axes)
        self.limit = plan.trials if self.points is None else min(plan.trials, self.points)
        self._state = quiet().trial.TrialState
        self._space = {axis.name: axis.distribution() for axis in plan.axes}
        self.study = self._opened()
        self._take_up()

    def next(self) -> Trial | None:
        """A trial of the last session that did not end, else one that is suggested; None while there is no room."""
        if len(self.active) >= self.plan.parallel:
            return None
        trial = self.left.popleft() if self.left else None
        while trial is None and len(self.known) < self.limit and not self.wrong:
            trial = self._become(self._ask())
        if trial is not None:
            self.active.add(trial.number)
        return trial

    def prune(self, trial: Trial, rows: list[Row]) -> bool:
        """Tell optuna of the epochs that it has not seen; whether the pruner condemns the trial."""
        if len(self.plan.directions) > 1:
            return False  # what is worse in one objective may be better in another
        asked, seen = self.asked[trial.number], self.reported[trial.number]
        column, new = next(iter(self.plan.objectives or {trial.monitor: ""})), False
        rows = [*self.waiting.pop(trial.number, []), *rows]
        if column == "auto":
            self.waiting[trial.number] = rows
            return False
        for row in rows:
            epoch = int(row.get("epoch", len(seen)))
            if column in row and epoch not in seen:
                asked.report(row[column], epoch)
                seen.add(epoch)
                new = True
        # At its last epoch there is nothing left to save.
        over = trial.epochs is not None and 0 < trial.epochs <= trial.epoch
        return new and not over and bool(asked.should_prune())

    def ended(self, trial: Trial) -> None:
        """Tell optuna; an interrupted trial stays open, for the session that goes on."""
        self.active.discard(trial.number)
        asked = self.asked.get(trial.number)
        if asked is None or trial.state not in ("finished", "pruned", "failed"):
            return
        if trial.state == "pruned":
            self._tell(asked, self._state.PRUNED)
            return
        values = self._values(trial) if trial.state == "finished" else None
        self._tell(asked, self._state.COMPLETE if values else self._state.FAIL, values)

    def complete(self) -> list[Any]:
        """Optuna's records of the trials that have values."""
        return self.study.get_trials(deepcopy=False, states=(self._state.COMPLETE,))

    def best(self) -> list[Any]:
        """Of these the best one; with several objectives those that no other one beats in all of them."""
        if not self.complete():
            return []
        return self.study.best_trials if len(self.plan.directions) > 1 else [self.study.best_trial]

    def trial(self, record: Any) -> Trial | None:
        """The sweep's trial of a record of optuna's; None for one that was set aside."""
        number = record.user_attrs.get("trial")
        return next((t for t in self.sweep.trials if t.number == number), None)

    def _opened(self) -> Any:
        optuna, file = quiet(), self.sweep.path / FILE
        if self.sweep.trials and not file.exists():
            raise ConfigError(
                f"{self.sweep.path} holds a sweep that is no study; choose another folder with hydra.sweep.dir=DIR."
            )
        self.sweep.path.mkdir(parents=True, exist_ok=True)
        self.plan.make_sampler(0)  # what is wrong with its settings is said at the start
        pruner, sampler = self.plan.make_pruner(), self.plan.make_sampler(0, name="random")
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{file}", study_name=NAME, directions=self.plan.directions, load_if_exists=True,
                pruner=pruner, sampler=sampler,
            )  # fmt: skip
        except Exception as error:  # sqlite's, sqlalchemy's, alembic's and optuna's own
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{file} cannot be used ({reason}); start the study in another folder.") from error
        plan, before = self.plan.record(), study.user_attrs.get("plan")
        if before is None:
            study.set_user_attr("plan", plan)
        for key, was in (before or {}).items():
            if was != plan[key]:
                raise ConfigError(
                    f"The study in {self.sweep.path} has other {key} ({_differing(was, plan[key])}); go on with the same ones, "
                    f"or choose another folder with hydra.sweep.dir=DIR."
                )
        return study

    def _take_up(self) -> None:
        """Bring this object, and what a kill left half-told, up to the storage."""
        for record in self.study.get_trials(deepcopy=False):
            if why := record.user_attrs.get("aside"):
                self.tries += why == "repeats"
                self._tell(record, self._state.FAIL)
            elif record.state.is_finished() and "trial" in record.user_attrs:
                self.tries = 0
                self.known[self._texts(record.params)] = record.user_attrs["trial"]
                self._agree(record)
            elif record.state == self._state.RUNNING:
                self.study.sampler = self.plan.make_sampler(0, name="random")  # is not asked for anything
                asked = quiet().trial.Trial(self.study, record._trial_id)
                if len(record.params) < len(self._space):
                    self._set_aside(asked, "torn")
                elif trial := self._become(asked):
                    self.left.append(trial)

    def _agree(self, record: Any) -> None:
        """The sweep's record of a trial was not written yet when optuna was told."""
        trial = self.trial(record)
        if trial and trial.state not in ("finished", "pruned", "failed"):
            trial.state = {"COMPLETE": "finished", "PRUNED": "pruned"}.get(record.state.name, "failed")  # type: ignore[assignment]
            if trial.state == "failed":
                trial.error = trial.error or "it failed when the sweep was killed"

    def _ask(self) -> Any:
        """Optuna's next trial: by its sampler, or the next point of a grid, or one by lot where the sampler repeats itself."""
        address = (len(self.known), self.tries)
        lot = self.tries >= TRIES
        self.study.sampler = self.plan.make_sampler(*address, name="random" if lot or self.plan.sampler == "grid" else None)
        waiting = self.study.get_trials(deepcopy=False, states=(self._state.WAITING,))
        if not waiting and (self.plan.sampler == "grid" or (lot and (self.points or FINITE) < FINITE)):
            points = (point for point in grid(self.plan.axes) if self._point(point) not in self.known)
            point = next(points) if self.plan.sampler == "grid" else self.plan.any_of(list(points), *address)
            self.study.enqueue_trial(dict(zip(self._space, point, strict=True)))
        try:
            return self.study.ask(self._space)
        except ImportError as error:
            raise ConfigError(f"sampler={self.plan.sampler} needs {error.name}, which is not installed; take tpe.") from error
        except ValueError as error:  # an old optuna's gp with several objectives, for example
            raise ConfigError(f"hydra.sweeper.sampler={self.plan.sampler} cannot do this study: {error}") from error

    def _become(self, asked: Any) -> Trial | None:
        """The sweep's trial for optuna's; None if it is set aside, or has ended at once."""
        texts = self._texts(asked.params)
        if texts in self.known:
            self._set_aside(asked, "repeats")
            return None
        free = max((t.number for t in self.sweep.trials), default=-1) + 1
        number = asked.user_attrs.get("trial", free)
        overrides = [*self.plan.overrides(), *(f"{a.key}={text}" for a, text in zip(self.plan.axes, texts, strict=True))]
        axes = {a.name: text.strip("'\"") for a, text in zip(self.plan.axes, texts, strict=True)}
        try:
            trial = self.make(number, overrides, axes)
        except ConfigError as error:
            trial = Trial(number, overrides, axes, str(number), state="failed", error=str(error))
            self.sweep.trials.append(trial)
        asked.set_user_attr("trial", trial.number)
        self.known[texts], self.tries = trial.number, 0
        record = self.study.get_trials(deepcopy=False)[asked.number]
        self.asked[trial.number], self.reported[trial.number] = asked, set(record.intermediate_values)
        if trial.state in ("finished", "pruned", "failed"):
            self.ended(trial)
            return None
        return trial

    def _set_aside(self, asked: Any, why: str) -> None:
        asked.set_user_attr("aside", why)
        self._tell(asked, self._state.FAIL)
        self.tries += why == "repeats"  # a torn one is asked for again, with the same seed

    def _tell(self, asked: Any, state: Any, values: list[float] | None = None) -> None:
        self.study.tell(asked.number, values, state=state, skip_if_finished=True)

    def _values(self, trial: Trial) -> list[float] | None:
        """The values of the objectives; None where one is missing."""
        if not self.plan.objectives:
            return None if trial.score is None else [trial.score]
        found: dict[str, Any] = {}
        with suppress(DataError):
            results = read_results(self.sweep.folder(trial))
            top = {key: results[key] for key in ("parameters", "seconds", "score")}
            found = {**top, **(results["metrics"] or {}), trial.monitor: trial.score}
        absent = [name for name in self.plan.objectives if name not in found]
        if found and absent and not self.complete():
            self.wrong = f"No run has the objective '{absent[0]}' in its results.json.{nearest(absent[0], found)}"
        values = [found.get(name) for name in self.plan.objectives]
        return [float(v) for v in values if v is not None] if None not in values else None

    def _texts(self, params: dict[str, Any]) -> tuple[str, ...]:
        return self._point([params[name] for name in self._space])

    def _point(self, values: Any) -> tuple[str, ...]:
        return tuple(axis.text(value) for axis, value in zip(self.plan.axes, values, strict=True))


def _differing(was: Any, now: Any) -> str:
    """`before: ...; now: ...`, of lists only the first that differ."""
    if isinstance(was, list) and isinstance(now, list):
        was, now = next(pair for pair in itertools.zip_longest(was, now, fillvalue="nothing") if pair[0] != pair[1])
    return f"before: {was}; now: {now}"
