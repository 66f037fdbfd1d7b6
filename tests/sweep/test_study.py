"""Studies: what is suggested, pruned, told and taken up again; with trials that only write their curves, and real ones."""

from __future__ import annotations

import builtins
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TINY
from sweep_runs import Silent

from seglab.errors import ConfigError, DataError
from seglab.results import KEYS
from seglab.sweep import pool as pools
from seglab.sweep.backend import Order
from seglab.sweep.folder import Sweep
from seglab.sweep.plan import Plan
from seglab.sweep.pool import Pool
from seglab.sweep.space import Choice, Number
from seglab.sweep.trial import Trial

optuna = pytest.importorskip("optuna")
import sqlalchemy  # noqa: E402

from seglab.sweep.study import Study  # noqa: E402

AXES = (Number("lr", 1e-4, 1e-1, log=True), Choice("loss", ("ce", "dice+ce", "0.3*dice+0.7*ce")))
EPOCHS = 8


class Killed(BaseException):
    """kill -9 in a test."""


def score(axes: dict[str, str]) -> float:
    """Best at lr=0.01, and a little better with dice."""
    value = float(axes.get("lr", 0.01))
    return math.exp(-(math.log10(value / 0.01) ** 2)) * (1 if "dice" in axes.get("loss", "") else 0.9)


class Scripted:
    """A trial that writes an epoch whenever it is looked at; `crash` fails, `silent` has no score."""

    def __init__(self, trial: Trial, folder: Path) -> None:
        self.trial, self.folder, self.epoch, self.asked = trial, folder, 0, False
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = ["epoch,train/loss,val/iou"]

    def poll(self) -> int | None:
        if self.asked:
            return 143
        if "crash" in self.trial.axes.values() and self.epoch == 1:
            return 1
        if self.epoch == EPOCHS:
            last = score(self.trial.axes)
            found = {"score": last, "monitor": "val/iou", "status": "finished", "metrics": {"val/iou": last, "val/empty": None}}
            sizes = {"parameters": len(self.trial.axes.get("loss", "")), "seconds": 1.0}
            (self.folder / "results.json").write_text(json.dumps({"schema": 1, **dict.fromkeys(KEYS), **found, **sizes}))
            return 0
        value = score(self.trial.axes) * (1 - 0.5 ** (self.epoch + 1))
        self.rows.append(f"{self.epoch},1.0,{value if self.epoch % 2 else ''}")  # validated every second epoch
        (self.folder / "metrics.csv").write_text("\n".join(self.rows) + "\n")
        self.epoch += 1
        return None

    def end(self) -> None:
        self.asked = True

    kill = end


class Backend:
    def __init__(self, sweep: Sweep, room: int, dies: int | None = None) -> None:
        self.sweep, self.room, self.dies, self.started = sweep, room, dies, []

    def describe(self) -> str:
        return "nowhere"

    def start(self, trial: Trial, order: Order) -> Scripted:
        self.started.append(trial.number)
        if self.dies is not None and len(self.started) > self.dies:
            raise Killed
        return Scripted(trial, self.sweep.folder(trial))

    def slots(self) -> int:
        return self.room

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No waiting, for trials or for the disk."""
    monkeypatch.setattr(pools, "LOOK", 0)
    monkeypatch.setattr(pools, "READ", 0)
    connected = (sqlalchemy.engine.Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    sqlalchemy.event.listen(*connected)
    yield
    sqlalchemy.event.remove(*connected)


def opened(folder: Path, plan: Plan, bad: str | None = None) -> Study:
    """The study of a folder, made anew or taken up from its files alone."""
    sweep = Sweep(folder, ["lr=..."])
    if (folder / "sweep.json").exists():
        sweep.trials = Sweep.read(folder).trials

    def make(number: int, overrides: list[str], axes: dict[str, str]) -> Trial:
        if bad in axes.values():
            raise ConfigError(f"There is no loss '{bad}'.")
        if old := next((t for t in sweep.trials if t.overrides == overrides), None):
            return old
        made = Trial(number, overrides, axes, str(number), epochs=EPOCHS, monitor="val/iou")
        sweep.trials.append(made)
        return made

    return Study(plan, sweep, make)


def run(folder: Path, plan: Plan, dies: int | None = None, bad: str | None = None) -> Study:
    """Run the study; with `dies` the process is killed at the start of that trial."""
    study = opened(folder, plan, bad)
    backend = Backend(study.sweep, plan.parallel, dies)
    made = Pool(study.sweep, backend, study, lambda t, again: Order([], folder / t.folder, folder), Silent())
    if dies is None:
        made.run()
    else:
        with pytest.raises(Killed):
            made.run()
    study.started = backend.started
    return study


def values(study: Study) -> list[tuple[str, ...]]:
    return [tuple(t.axes.values()) for t in study.sweep.trials]


def told(study: Study) -> list[str]:
    """The states that optuna knows of, of the trials that count."""
    return [t.state.name for t in study.study.get_trials(deepcopy=False) if "aside" not in t.user_attrs]


@pytest.mark.parametrize("sampler", ["tpe", *(pytest.param(s, marks=pytest.mark.slow) for s in ("random", "nsga2", "gp"))])
def test_the_suggestions_are_a_function_of_the_seed(tmp_path, sampler):
    many = 6 if sampler == "gp" else 12
    settings = {"n_startup_trials": 4} if sampler in ("tpe", "gp") else {}
    plan = Plan(AXES, trials=many, sampler=sampler, sampler_settings=settings, seed=1)
    first = run(tmp_path / "a", plan)
    assert values(first) == values(run(tmp_path / "b", plan))
    assert len(set(values(first))) == many
    other = run(tmp_path / "c", Plan(AXES, trials=4, sampler=sampler, seed=2))
    assert not set(values(other)) & set(values(first))


@pytest.mark.slow
def test_a_resumed_study_is_the_unbroken_one(tmp_path):
    whole = run(tmp_path / "whole", Plan(AXES, trials=12, sampler_settings={"n_startup_trials": 5}))
    for trials in (2, 7, 12):
        part = run(tmp_path / "part", Plan(AXES, trials=trials, sampler_settings={"n_startup_trials": 5}))
    assert values(part) == values(whole)
    assert told(part) == told(whole)
    assert part.started == list(range(7, 12))


KILLS = ["asking", "marked", "running", "told"]  # between the moments that can be told apart, others are slow


@pytest.mark.parametrize("moment", [*KILLS, *(pytest.param(m, marks=pytest.mark.slow) for m in ("asked", "started", "ended"))])
def test_a_kill_at_any_moment_loses_and_repeats_nothing(tmp_path, monkeypatch, moment):
    plan = Plan(AXES, trials=8, sampler_settings={"n_startup_trials": 3})
    whole = run(tmp_path / "whole", plan)

    def dies_at_the_fifth(cls, name, before=False):
        inner, calls = getattr(cls, name), itertools.count(1)

        def called(*args, **kwargs):
            fifth = next(calls) == 5
            if fifth and before:
                raise Killed
            result = inner(*args, **kwargs)
            if fifth:
                raise Killed
            return result

        monkeypatch.setattr(cls, name, called)

    if moment == "asking":
        inner, calls = optuna.trial.Trial._suggest, itertools.count(1)

        def suggest(*args):
            if next(calls) == 10:  # the second of two axes
                raise Killed
            return inner(*args)

        monkeypatch.setattr(optuna.trial.Trial, "_suggest", suggest)
    elif moment == "asked":
        dies_at_the_fifth(Study, "_become", before=True)
    elif moment == "marked":
        dies_at_the_fifth(Study, "_become")
    elif moment == "running":
        monkeypatch.setattr(Scripted, "end", lambda self: None)
        dies_at_the_fifth(Study, "prune")
    elif moment in ("ended", "told"):
        dies_at_the_fifth(Study, "ended", before=moment == "ended")
    study = opened(tmp_path / "part", plan)
    backend = Backend(study.sweep, 1, 4 if moment == "started" else None)
    broken = Pool(study.sweep, backend, study, lambda t, again: Order([], tmp_path, tmp_path), Silent())
    write = Sweep.write
    with monkeypatch.context() as patch, pytest.raises(Killed):
        # After kill -9 nothing is written; the pool's last words would be.
        patch.setattr(Sweep, "write", lambda self: write(self) if sys.exc_info()[0] is not Killed else None)
        broken.run()
    monkeypatch.undo()
    monkeypatch.setattr(pools, "LOOK", 0)
    monkeypatch.setattr(pools, "READ", 0)
    part = run(tmp_path / "part", plan)
    assert values(part) == values(whole)
    assert told(part) == told(whole)
    assert [t.state for t in part.sweep.trials] == [t.state for t in whole.sweep.trials]
    assert len(set(values(part))) == 8


@pytest.mark.parametrize(
    "pruner", ["median", *(pytest.param(name, marks=pytest.mark.slow) for name in ("percentile", "hyperband"))]
)
def test_bad_trials_are_ended_early_and_the_best_is_found_all_the_same(tmp_path, pruner):
    plain = run(tmp_path / "plain", Plan(AXES, trials=24, parallel=2, pruner="none", epochs=EPOCHS))
    pruned = run(tmp_path / "pruned", Plan(AXES, trials=24, parallel=2, pruner=pruner, epochs=EPOCHS))
    assert told(plain) == ["COMPLETE"] * 24
    assert 0 < told(pruned).count("PRUNED") < 20
    assert sum(t.epoch for t in pruned.sweep.trials) < 0.9 * sum(t.epoch for t in plain.sweep.trials)
    assert pruned.sweep.best().score > 0.9
    ended = [t for t in pruned.sweep.trials if t.state == "pruned"]
    assert all(t.epoch > 2 for t in ended)
    seen = {t.user_attrs["trial"]: t.intermediate_values for t in pruned.study.get_trials()}
    assert all(set(steps) <= set(range(1, EPOCHS, 2)) for steps in seen.values()), "epochs without a validation say nothing"


def test_a_trial_at_its_last_epoch_is_not_pruned(tmp_path):
    study = run(tmp_path, Plan(AXES, trials=1))
    trial = study.sweep.trials[0]
    for epoch, condemned in ((EPOCHS - 1, True), (EPOCHS, False)):
        study.asked[trial.number] = SimpleNamespace(report=lambda *told: None, should_prune=lambda: True)
        trial.epoch, study.reported[trial.number] = epoch, set()
        assert study.prune(trial, [{"epoch": epoch, "val/iou": 0.1}]) is condemned


def test_a_loss_is_searched_downwards(tmp_path):
    study = run(tmp_path, Plan(AXES, trials=10, higher=False))
    [best] = study.best()
    assert best.value == min(t.value for t in study.complete())


@pytest.mark.slow
def test_a_grid_is_covered_once_over_kills_too(tmp_path):
    axes = (Choice("loss", ("ce", "dice")), Number("size", 4, 12, step=4, integer=True), Choice("flag", ("True", "False")))
    whole = list(itertools.product(("ce", "dice"), ("4", "8", "12"), ("True", "False")))
    plan = Plan(axes, sampler="grid", parallel=2, pruner="none")
    run(tmp_path, plan, dies=5)
    study = run(tmp_path, plan)
    assert values(study) == whole
    assert told(study) == ["COMPLETE"] * 12
    assert run(tmp_path, plan).started == []


def test_a_finite_space_is_not_searched_twice(tmp_path):
    axes = (Choice("loss", ("ce", "dice", "focal")), Choice("flag", ("True", "False")))
    study = run(tmp_path, Plan(axes, trials=20, sampler_settings={"n_startup_trials": 2}))
    assert len(study.sweep.trials) == 6
    assert sorted(values(study)) == sorted(itertools.product(("ce", "dice", "focal"), ("True", "False")))


@pytest.mark.slow
def test_two_objectives_have_a_front(tmp_path):
    aims = {"val/iou": "max", "parameters": "min"}
    study = run(tmp_path, Plan(AXES, trials=24, sampler="nsga2", objectives=aims, parallel=2))
    assert told(study) == ["COMPLETE"] * 24, "nothing is pruned"
    front = [tuple(t.values) for t in study.best()]
    every = [tuple(t.values) for t in study.complete()]
    assert len(front) > 1
    assert not any(a[0] > b[0] and a[1] < b[1] for a in every for b in front)


def test_failing_trials_do_not_end_a_study(tmp_path):
    axes = (AXES[0], Choice("loss", ("ce", "crash", "unknown")))
    plan = Plan(axes, trials=12, parallel=2, pruner="none")
    study = run(tmp_path, plan, bad="unknown")
    kinds = [t.axes["loss"] for t in study.sweep.trials]
    assert told(study) == ["COMPLETE" if kind == "ce" else "FAIL" for kind in kinds]
    assert {kind for kind in kinds} == {"ce", "crash", "unknown"}
    assert {t.error for t in study.sweep.trials if t.axes["loss"] == "unknown"} == {"There is no loss 'unknown'."}
    again = run(tmp_path, plan, bad="unknown")
    assert (again.started, told(again)) == ([], told(study)), "failed trials stay failed"


def test_a_missing_objective_is_told_after_the_first_trial(tmp_path):
    study = run(tmp_path / "a", Plan(AXES, objectives={"val/iuo": "max", "seconds": "min"}))
    assert len(study.sweep.trials) == 1
    assert study.wrong == "No run has the objective 'val/iuo' in its results.json. Did you mean 'val/iou'?"
    study = run(tmp_path / "b", Plan(AXES, trials=3, objectives={"val/empty": "max"}))
    assert (told(study), study.wrong) == (["FAIL"] * 3, None)
    assert [t.error for t in study.sweep.trials] == [None] * 3


def test_another_study_is_not_gone_on_with(tmp_path):
    run(tmp_path, Plan(AXES, ("epochs=1",), trials=2))
    with pytest.raises(ConfigError, match=r"other axes \(before: lr in numbers from 0.0001 to 0.1 .*; now: lr in numbers"):
        opened(tmp_path, Plan((Number("lr", 1e-5, 1e-1, log=True), AXES[1])))
    with pytest.raises(ConfigError, match=r"other overrides \(before: epochs=1; now: epochs=2\)"):
        opened(tmp_path, Plan(AXES, ("epochs=2",)))
    with pytest.raises(ConfigError, match="other objectives"):
        opened(tmp_path, Plan(AXES, ("epochs=1",), higher=False))
    (tmp_path / "study.db").unlink()
    with pytest.raises(ConfigError, match="holds a sweep that is no study"):
        opened(tmp_path, Plan(AXES, ("epochs=1",)))
    (tmp_path / "study.db").write_text("nothing of sqlite's " * 100)
    with pytest.raises(DataError, match=r"study\.db cannot be used"):
        opened(tmp_path, Plan(AXES, ("epochs=1",)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sampler": "tpee"}, "sampler=tpee. Did you mean 'tpe'"), ({"pruner": "mean"}, "pruner=mean"), ({"trials": 0}, "1 or more"),
        ({"objectives": {"val/iou": "maximise"}}, "'val/iou' is maximise; write val/iou: max"),
        ({"sampler_settings": {"n_startup": 3}}, "n_startup.*Did you mean 'n_startup_trials'"),
        ({"pruner_settings": {"warmup_steps": 3}}, "Did you mean 'n_warmup_steps'"),
        ({"pruner": "percentile", "pruner_settings": {"percentile": 200}}, "PercentilePruner refuses"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says) as caught:
        opened(tmp_path, Plan(AXES, **settings))
    assert "\n" not in str(caught.value)


def test_without_optuna(tmp_path, monkeypatch):
    real = builtins.__import__
    refuse = lambda name, *args: real(name if name != "optuna" else "optuna_is_missing", *args)  # noqa: E731
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r'install it with pip install "seglab\[optuna\]"'):
        opened(tmp_path, Plan(AXES))


@pytest.mark.slow
def test_a_study_of_real_trainings_and_more_of_it(tmp_path):
    def command(*more: str, code: int = 0) -> str:
        words = [sys.executable, "-m", "seglab.train", "-m", *TINY, "test=false", "hydra.sweep.dir=study", *more]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    slots = ("hydra.launcher.devices=cpu", "hydra.launcher.per_trial=0.5")
    axes = ("hydra/sweeper=optuna", "optimizer.lr=tag(log, interval(1e-4, 1e-2))", "loss=ce,0.3*dice+0.7*ce")
    said = command(*axes, *slots, "hydra.sweeper.trials=4")
    folder = tmp_path / "study"
    sweep = Sweep.read(folder)
    assert [t.state for t in sweep.trials] == ["finished"] * 4
    assert {p.name for p in folder.iterdir()} >= {"study.db", "history.png", "sweep.json", "summary.csv", "multirun.yaml"}
    assert "4 trials: 4 finished; see study/study.db" in said
    assert f"-> {sweep.best().folder}: {sweep.best().name()}" in said
    command(*axes, *slots, "hydra.sweeper.trials=6", "hydra.launcher.resume=true")
    again = Sweep.read(folder)
    assert [t.state for t in again.trials] == ["finished"] * 6
    assert [t.axes for t in again.trials[:4]] == [t.axes for t in sweep.trials]
    assert [t.attempts for t in again.trials] == [1] * 6
    assert "loss 'dise'" in command("hydra/sweeper=optuna", "loss=ce,dise", "hydra.sweep.dir=other", code=1)
